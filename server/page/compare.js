/*
 * One prompt, many voices: each is a stream of its own, so all of them share the daemon's batches.
 * Tokens are compared by id with the first voice's as they come. The first one that differs is
 * marked, in its column and in words; after it the texts are two stories, and no more is marked.
 */
import { Refused, stream } from "./api.js";
import { byId, make, plural, refusalBox } from "./dom.js";

const CONNECTIONS = 6; /* what browsers open to one host over HTTP/1.1 */

let aborter = null;

/* A token as one names it: without the space that begins a word, unless that is the difference. */
function named(text, other) {
  const short = text.trim();
  return `“${short && short !== other.trim() ? short : visible(text)}”`;
}

/* White space that is to be seen. */
function visible(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");
}

class Column {
  constructor(name, reference) {
    this.name = name;
    this.reference = reference;
    this.tokens = []; /* {id, text, span}: tokens of one piece share its span */
    this.compared = 0;
    this.ended = false;
    this.text = make("p", { class: "text", lang: "" });
    this.note = make("p", { class: "note" }, "waiting");
    const id = `column-${name}`;
    this.article = make("article", { "aria-labelledby": id }, make("h3", { id }, name), this.text, this.note);
  }

  /* The tokens of a frame; of a piece that is no whole number of them the texts are not known. */
  add({ text, token_ids: ids = [], logprobs }) {
    const texts = logprobs?.tokens || [];
    const whole = texts.length === ids.length && texts.join("") === text;
    const shared = whole ? null : make("span", {}, text);
    ids.forEach((id, i) => {
      const chance = whole ? Math.exp(logprobs.token_logprobs[i]) : null;
      const shown = this.tokens.length ? texts[i] : texts[i]?.replace(/^ /, "");
      const span = shared || make("span", { title: `p = ${chance.toPrecision(2)}` }, shown);
      this.tokens.push({ id, text: whole ? texts[i] : text, span });
      this.text.append(span);
    });
    if (!ids.length && text)
      this.text.append(text);
  }

  /* Compares what both have by now. */
  compare() {
    const other = this.reference;
    if (!other || this.difference !== undefined)
      return;
    const n = Math.min(this.tokens.length, other.tokens.length);
    while (this.compared < n && this.tokens[this.compared].id === other.tokens[this.compared].id)
      this.compared++;
    if (this.compared === n)
      return;
    this.difference = this.compared;
    this.mark(this.tokens[this.difference].span);
  }

  /* The space before a word stays outside; what is nothing but space is made visible. */
  mark(span) {
    const text = span.textContent, word = text.trimStart();
    const spoken = make("span", { class: "spoken" }, `[first difference, token ${this.difference + 1}:] `);
    const mark = make("mark", { title: span.title }, spoken, word || visible(text));
    span.replaceChildren(word ? text.slice(0, text.length - word.length) : "", mark, word ? "" : text);
  }

  verdict() {
    const other = this.reference;
    if (!other)
      return "";
    if (this.difference !== undefined) {
      const there = other.tokens[this.difference].text, here = this.tokens[this.difference].text;
      return `differs from ${other.name} at token ${this.difference + 1}: ${named(here, there)} for ${named(there, here)}`;
    }
    if (this.stopped || other.stopped)
      return "stopped";
    if (!this.ended || !other.ended || !other.tokens.length)
      return "";
    if (this.tokens.length !== other.tokens.length)
      return `as ${other.name} up to token ${this.compared}, where one ends`;
    return `the same as ${other.name}`;
  }

  say() {
    const n = plural(this.tokens.length, "token");
    this.note.textContent = [this.tokens.length || this.ended ? n : "waiting", this.verdict()].filter(Boolean).join(" · ");
  }

  async run(body, signal, changed) {
    try {
      for await (const frame of stream("v1/completions", body, signal)) {
        for (const choice of frame.choices)
          this.add(choice);
        changed();
      }
    } catch (error) {
      if (error.name === "AbortError")
        this.stopped = true;
      else
        this.refused(error);
    }
    this.ended = true;
    changed();
  }

  refused(error) {
    this.failed = true;
    this.note.before(refusalBox(error instanceof Refused ? error : { message: error.message }));
  }
}

function request(voice, isBase) {
  const body = {
    prompt: byId("prompt").value,
    max_tokens: byId("max-tokens").valueAsNumber,
    temperature: byId("temperature").valueAsNumber,
    seed: byId("seed").valueAsNumber,
    stream: true,
    return_token_ids: true,
    logprobs: 0,
  };
  return isBase ? body : { ...body, adapter: voice };
}

function chosen() {
  return [...document.querySelectorAll("#voices input:checked")];
}

function report(columns) {
  const failed = columns.filter((c) => c.failed).length;
  const differ = columns.filter((c) => c.difference !== undefined).length;
  const said = columns[0].failed || columns.length < 2 ? [] : [`${differ} of ${columns.length - 1} differ from ${columns[0].name}`];
  if (failed)
    said.push(`${plural(failed, "voice")} refused`);
  byId("compare-note").textContent = `Done. ${said.join(", ")}`.trim();
}

function busy(running) {
  byId("run").disabled = running;
  byId("stop").disabled = !running;
  byId("columns").setAttribute("aria-busy", running);
  /* A disabled button loses the focus: it goes to the one that is useful now. */
  const lost = document.activeElement === document.body || document.activeElement === byId(running ? "run" : "stop");
  if (lost)
    byId(running ? "stop" : "run").focus();
}

async function run() {
  const voices = chosen();
  const columns = [];
  if (!voices.length) {
    byId("compare-note").textContent = "Choose a voice.";
    return;
  }
  for (const v of voices)
    columns.push(new Column(v.value, columns[0]));
  byId("columns").replaceChildren(...columns.map((c) => c.article));
  byId("compare-note").textContent = voices.length < CONNECTIONS ? "Running."
    : `Running; browsers open ${CONNECTIONS} connections at a time, so the last voices start later.`;
  aborter = new AbortController();
  busy(true);
  const changed = () => columns.forEach((c) => {
    c.compare();
    c.say();
  });
  await Promise.all(columns.map((c, i) =>
    c.run(request(c.name, "base" in voices[i].dataset), aborter.signal, changed)));
  busy(false);
  report(columns);
}

function chip(name, isBase, checked) {
  const box = make("input", { type: "checkbox", value: name, checked, "data-base": isBase });
  return make("label", { class: "chip" }, box, make("span", {}, name));
}

/* The voices that there are; choices are kept. The first time, the base and the first few are chosen. */
export function showVoices(base, names) {
  const before = [...document.querySelectorAll("#voices input")];
  const all = [base, ...names];
  if (before.length === all.length && before.every((b, i) => b.value === all[i]))
    return;
  const was = new Map(before.map((b) => [b.value, b.checked]));
  const focused = document.activeElement?.value;
  byId("voices").replaceChildren(...all.map((name, i) =>
    chip(name, i === 0, was.size ? was.get(name) ?? false : i < CONNECTIONS - 1)));
  if (before.includes(document.activeElement) || (was.has(focused) && document.activeElement === document.body))
    [...document.querySelectorAll("#voices input")].find((b) => b.value === focused)?.focus();
}

export function startCompare() {
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  byId("stop").addEventListener("click", () => aborter?.abort());
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey))
      byId("compare-form").requestSubmit();
  });
}
