/*
 * Calls of the daemon that served this page. A refusal is thrown as Refused with the daemon's own
 * code and words; who calls shows it. The key stays in this tab (sessionStorage) and is sent to
 * this origin only: the policy of the page allows no other.
 */
const STORED = "oftd-key";
let key = sessionStorage.getItem(STORED) || "";

export class Refused extends Error {
  constructor(status, error) {
    super(typeof error === "string" ? error : error.message);
    this.status = status;
    this.code = error.code || "";
    this.findings = error.details?.findings || [];
  }
}

export function hasKey() {
  return key !== "";
}

export function useKey(text) {
  key = text;
  if (key)
    sessionStorage.setItem(STORED, key);
  else
    sessionStorage.removeItem(STORED);
}

async function refusal(response) {
  const text = await response.text();
  let error = null;
  try {
    error = JSON.parse(text).error;
  } catch {
    /* not the daemon's own: a gateway between it and us */
  }
  return new Refused(response.status, error || text.slice(0, 200) || response.statusText);
}

async function request(method, path, body, signal) {
  const headers = {};
  if (body !== undefined)
    headers["Content-Type"] = "application/json";
  if (key)
    headers.Authorization = `Bearer ${key}`;
  const options = { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" };
  const response = await fetch(path, options);
  if (!response.ok)
    throw await refusal(response);
  return response;
}

/* The JSON of a good answer. */
export async function call(method, path, body) {
  return (await request(method, path, body)).json();
}

/* A public GET: {status, text} whatever the status is. */
export async function look(path) {
  const response = await fetch(path, { cache: "no-store" });
  return { status: response.status, text: await response.text() };
}

function parse(frame) {
  const out = { event: "message", data: "" };
  for (const line of frame.split("\n"))
    for (const name of ["event", "data"])
      if (line.startsWith(`${name}: `))
        out[name] = line.slice(name.length + 2);
  return out;
}

/* The objects of a stream of server-sent events, up to [DONE]. */
export async function* stream(path, body, signal) {
  const response = await request("POST", path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done)
      throw new Refused(response.status, "the stream ended early");
    const frames = (pending + value).split("\n\n");
    pending = frames.pop();
    for (const { event, data } of frames.map(parse)) {
      if (data === "[DONE]")
        return;
      if (event === "error")
        throw new Refused(response.status, JSON.parse(data).error);
      yield JSON.parse(data);
    }
  }
}
