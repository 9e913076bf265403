/*
 * The adapters as the admin plane tells them, and what can be done to each. A row is made once and
 * only what has changed in it is made anew, so that focus and open reports survive a refresh. What
 * is refused is shown in the row that it is about.
 */
import { call } from "./api.js";
import { mergeFigure } from "./charts.js";
import { byId, bytes, make, refusalBox } from "./dom.js";

const DEFECT_HIGH = 0.1; /* the daemon's finding orthogonality_defect_high */

const rows = new Map();
let refresh = async () => {};

function fact(term, value, attributes = {}) {
  return make("div", {}, make("dt", {}, term), make("dd", attributes, value));
}

function folder(a) {
  return (a.path || a.name).split("/").filter(Boolean).pop();
}

function facts(a) {
  if (a.state === "available")
    return [fact("folder", a.path)];
  if (a.state === "failed")
    return [fact("error", a.error || "")];
  const high = a.orthogonality_defect > DEFECT_HIGH;
  const defect = a.orthogonality_defect === null ? "not finite" : a.orthogonality_defect.toPrecision(2);
  return [
    fact("digest", (a.digest || "–").replace("sha256:", "").slice(0, 12), { title: a.digest, class: "code" }),
    fact("generation", String(a.generation)),
    fact("bytes", bytes(a.bytes.packed + a.bytes.rotations),
      { title: `packed ${bytes(a.bytes.packed)}, rotations ${bytes(a.bytes.rotations)}` }),
    fact("orthogonality defect", defect, { class: high ? "high" : null }),
    fact("blocks", a.block_sizes.join(", ") || "–"),
    fact("modules", `${a.modules.matched} of ${a.modules.total}`),
    fact("Cayley", a.cayley.method === "neumann" ? `Neumann, ${a.cayley.terms}` : "exact",
      { title: a.cayley.method === "neumann" ? `the Neumann series with ${a.cayley.terms} terms` : null }),
    fact("in flight", String(a.in_flight)),
  ];
}

class Row {
  constructor(name) {
    this.name = name;
    this.shown = "";
    this.heading = make("h3", { tabindex: "-1" }, name);
    this.state = make("span", { class: "state" });
    this.facts = make("dl", {});
    this.buttons = make("div", { class: "actions", role: "group", "aria-label": `Actions for ${name}` });
    this.outcome = make("div", { class: "outcome" });
    this.item = make("li", {}, make("div", { class: "row-head" }, this.heading, this.state, this.buttons),
      this.facts, this.outcome);
  }

  button(word, action) {
    return make("button", { type: "button", "aria-label": `${word} ${this.name}`, click: action }, word);
  }

  actions(a) {
    if (a.state === "available")
      return [this.button("Load", () => this.load({ name: a.name }))];
    if (a.state === "failed")
      return [this.button("Load…", () => openLoad(a)), this.button("Forget", () => this.forget())];
    if (a.state !== "ready")
      return [];
    if (a.merged)
      return [this.button("Unmerge", () => this.unmerge())];
    return [this.button("Replace…", () => openLoad(a)), this.button("Merge…", () => openMerge(this)),
      this.button("Unload", () => this.unload())];
  }

  show(a) {
    const text = JSON.stringify(a);
    if (text === this.shown)
      return;
    const focused = this.item.contains(document.activeElement) ? document.activeElement : null;
    const before = focused?.textContent;
    this.shown = text;
    this.state.textContent = [a.merged ? "merged" : a.state, a.pinned ? "pinned" : ""].filter(Boolean).join(", ");
    this.state.className = `state ${a.merged ? "merged" : a.state}`;
    this.facts.replaceChildren(...facts(a));
    this.buttons.replaceChildren(...this.actions(a));
    if (focused && !focused.isConnected)
      ([...this.buttons.children].find((b) => b.textContent === before) || this.heading).focus();
  }

  /* One request at a time for a row; its outcome replaces the one before. */
  async act(word, done, request) {
    for (const b of this.buttons.children)
      b.disabled = true;
    byId("adapters-note").textContent = `${word} ${this.name} …`;
    try {
      const reply = await request();
      this.outcome.replaceChildren();
      byId("adapters-note").textContent = done(reply);
      return reply;
    } catch (error) {
      this.outcome.replaceChildren(refusalBox(error));
      byId("adapters-note").textContent = "";
      return null;
    } finally {
      for (const b of this.buttons.children)
        b.disabled = false;
      await refresh();
      if (document.activeElement === document.body)
        (this.buttons.firstElementChild || this.heading).focus();
    }
  }

  load(body) {
    return this.act("Loading", (a) => `${a.name} is ${a.state}, generation ${a.generation}.`,
      () => call("POST", "v1/adapters", body));
  }

  unload() {
    return this.act("Unloading", (r) => `${r.name} is unloaded, ${bytes(r.bytes)} are free.`,
      () => call("DELETE", `v1/adapters/${encodeURIComponent(this.name)}`));
  }

  /* A load that failed stays listed until then. */
  forget() {
    return this.act("Forgetting", (r) => `${r.name} is forgotten.`,
      () => call("DELETE", `v1/adapters/${encodeURIComponent(this.name)}`));
  }

  async merge(body) {
    const reply = await this.act("Merging", (r) =>
      `${this.name}: ${r.dry_run ? "a merge would cost" : "merged,"} ${bytes(r.bytes)} in ${r.modules} modules.`,
    () => call("POST", "v1/merge", body));
    if (reply)
      this.outcome.replaceChildren(mergeFigure(reply), ...reply.warnings.map((w) => make("p", { class: "note" }, w)));
  }

  unmerge() {
    return this.act("Unmerging", (r) => `${r.unmerged.join(", ")}: the original bytes are back.`,
      () => call("POST", "v1/unmerge", { adapter: this.name }));
  }
}

function rowOf(name) {
  if (!rows.has(name))
    rows.set(name, new Row(name));
  return rows.get(name);
}

/* ---- the two dialogs ---- */

let merging = null;
let replacing = false;

/* a: the adapter that is replaced, or whose load has failed, or null. */
function openLoad(a) {
  replacing = a?.state === "ready";
  byId("load-title").textContent = replacing ? `Replace ${a.name}` : "Load an adapter";
  byId("load-submit").textContent = replacing ? "Replace" : "Load";
  byId("load-note").hidden = !replacing;
  byId("load-name").value = a ? a.name : "";
  byId("load-name").readOnly = replacing;
  byId("load-path").value = a ? folder(a) : "";
  byId("load-pinned").checked = a ? a.pinned : false;
  byId("load-dialog").showModal();
  byId(a ? "load-path" : "load-name").focus();
}

function submitLoad() {
  const name = byId("load-name").value, path = byId("load-path").value;
  const body = { name, pinned: byId("load-pinned").checked, replace: replacing ? "always" : "never" };
  const row = rowOf(name);
  if (!row.item.isConnected)
    byId("adapters").append(row.item);
  row.load(path ? { ...body, path } : body);
}

function openMerge(row) {
  merging = row;
  byId("merge-title").textContent = `Merge ${row.name}`;
  byId("merge-form").reset();
  byId("merge-dialog").showModal();
}

function submitMerge() {
  const into = byId("merge-into").value, bound = byId("merge-bound").valueAsNumber;
  const body = { adapter: merging.name, mode: byId("merge-mode").value, dry_run: byId("merge-dry").checked };
  if (into)
    body.into = into;
  if (!Number.isNaN(bound))
    body.max_error = { rel_fro: bound };
  merging.merge(body);
}

function startDialog(name, submit) {
  const dialog = byId(`${name}-dialog`);
  byId(`${name}-form`).addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    submit();
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
}

/* ---- the list ---- */

/* adapters: as GET /v1/adapters tells them, or null where this address has no admin plane for us. */
export function showAdapters(adapters, why) {
  byId("load-open").hidden = adapters === null;
  if (adapters === null) {
    byId("adapters").replaceChildren();
    rows.clear();
    byId("adapters-note").textContent = why;
    return;
  }
  if (byId("adapters-note").textContent === showAdapters.why)
    byId("adapters-note").textContent = adapters.length ? "" : "None is loaded, and none lies in the adapter roots.";
  showAdapters.why = "";
  const items = adapters.map((a) => {
    const row = rowOf(a.name);
    row.show(a);
    return row.item;
  });
  const list = byId("adapters");
  /* A row without an adapter stays while it tells of a refusal. */
  for (const row of rows.values())
    if (!items.includes(row.item) && !row.outcome.hasChildNodes()) {
      row.item.remove();
      rows.delete(row.name);
    }
  items.filter((item) => !item.isConnected).forEach((item) => list.append(item));
  byId("folders").replaceChildren(...adapters.map((a) => make("option", { value: folder(a) })));
}

/* again: reads the list anew. */
export function startAdapters(again) {
  refresh = again;
  startDialog("load", submitLoad);
  startDialog("merge", submitMerge);
  byId("load-open").addEventListener("click", () => openLoad(null));
}
