/* The few words that the other files share: elements, and figures as people read them. */
const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (value === true)
      element.setAttribute(name, "");
    else if (typeof value === "function")
      element.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value);
  element.append(...children.filter((c) => c !== null));
  return element;
}

/* attributes: a function is a listener, true an empty one, false and null none. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++)
    n /= 1000;
  return `${i ? n.toPrecision(3) : n} ${units[i]}`;
}

export function percent(x) {
  return `${(100 * x).toPrecision(2)}\u202f%`;
}

export function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

/* What a refusal says: its number, its code, its words, and each finding. */
export function refusalBox(error) {
  const code = error.status ? `${error.status} ${error.code}`.trim() : "no answer";
  const told = (f) => f.code === error.code && f.message === error.message;
  const findings = (error.findings || []).filter((f) => !told(f)).map((f) =>
    make("li", {}, make("code", {}, f.code), " ", f.message || [f.module, f.field, f.got].filter(Boolean).join(" ")));
  return make("div", { class: "refusal", role: "alert" },
    make("p", {}, make("code", {}, code), " ", error.message), findings.length ? make("ul", {}, ...findings) : null);
}
