/*
 * The page of a daemon: what it serves, one prompt through many voices, its adapters, its figures.
 * Plain scripts without a build step, and no other host than the one that served them. This file
 * asks what there is, again and again while the page can be seen, and hands it to the others.
 */
import { Refused, call, hasKey, look, useKey } from "./api.js";
import { showAdapters, startAdapters } from "./adapters.js";
import { showVoices, startCompare } from "./compare.js";
import { byId } from "./dom.js";
import { readFigures } from "./live.js";

const TICK_MS = 1000, ADAPTERS_EVERY = 3;

let known = false; /* who is served here has been asked */
let locked = false; /* a key is asked for */

function setState(word) {
  if (byId("state").textContent !== word)
    byId("state").textContent = word;
  byId("state").dataset.state = word.split(" ")[0];
}

/* ---- the key ---- */

function showKeyForm(open) {
  byId("key-form").hidden = !open;
  byId("key-open").setAttribute("aria-expanded", open);
}

function askForKey(error) {
  byId("key-open").hidden = false;
  byId("key-note").textContent = hasKey() ? error.message : "This server asks for a key. It stays in this tab and goes to this server only.";
  showAdapters(null, "");
  if (locked)
    return;
  locked = true;
  showKeyForm(true);
  byId("key").focus();
}

function startKey() {
  byId("key-open").hidden = !hasKey();
  byId("key-open").addEventListener("click", () => {
    showKeyForm(byId("key-form").hidden);
    byId("key").focus();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key").value.trim());
    byId("key").value = "";
    locked = known = false;
    showKeyForm(false);
    read();
  });
  byId("key-forget").addEventListener("click", () => {
    useKey("");
    locked = known = false;
    read();
  });
}

/* ---- what is served ---- */

async function readBase() {
  const network = await call("GET", "v1/model");
  const method = network.quant_method || "not quantized";
  byId("base").textContent = `${network.id} · ${network.architecture} · ${method}`;
  document.title = `oftd · ${network.id}`;
  return network.id;
}

/* The adapters of the admin plane; where it is closed to us, null and the reason. */
async function readAdapters() {
  try {
    return [(await call("GET", "v1/adapters?available=1")).adapters, ""];
  } catch (error) {
    if (!(error instanceof Refused) || ![401, 403, 404].includes(error.status))
      throw error;
    const elsewhere = error.status === 404;
    return [null, elsewhere ? "Adapters are administrated at another address of this server." : error.message];
  }
}

async function showWhatIsServed() {
  const base = await readBase();
  const { data } = await call("GET", "v1/models");
  const [adapters, why] = await readAdapters();
  const loaded = data.filter((m) => m.parent !== null).map((m) => m.id);
  const waiting = (adapters || []).filter((a) => a.state === "available").map((a) => a.name);
  showVoices(base, [...loaded, ...waiting].sort());
  showAdapters(adapters, why);
}

/* Asks everything once; what fails is said in the head. */
async function read() {
  try {
    const { status, text } = await look("health");
    const health = JSON.parse(text);
    setState(status === 200 ? "ready" : health.progress === undefined ? health.status : `loading ${Math.round(100 * health.progress)} %`);
    if (status !== 200)
      return;
    await showWhatIsServed();
    known = true;
    if (locked) {
      locked = false;
      showKeyForm(false);
    }
  } catch (error) {
    if (error.status === 401)
      askForKey(error);
    else
      setState(error instanceof Refused ? `${error.status} ${error.code}` : "no answer");
  }
}

/* ---- the clock ---- */

let ticks = 0;

async function tick() {
  if (!document.hidden) {
    if (!locked && (!known || ticks % ADAPTERS_EVERY === 0))
      await read();
    await readFigures().catch(() => setState("no answer"));
    ticks++;
  }
  setTimeout(tick, TICK_MS);
}

startKey();
startCompare();
startAdapters(read);
tick();
