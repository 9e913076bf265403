/* /metrics as three spark lines. A rate is a difference of two readings, by the page's own clock. */
import { look } from "./api.js";
import { Spark } from "./charts.js";
import { byId, percent } from "./dom.js";

const plots = {
  rate: new Spark(byId("rate-plot")),
  queue: new Spark(byId("queue-plot"), { series: 2 }),
  kv: new Spark(byId("kv-plot"), { top: 1 }),
};
let before = null;

/* The lines without labels: {name: value}. */
function parse(text) {
  const out = {};
  for (const line of text.split("\n")) {
    const [name, value] = line.split(" ");
    if (name && name[0] !== "#" && !name.includes("{"))
      out[name] = Number(value);
  }
  return out;
}

export async function readFigures() {
  const figures = parse((await look("metrics")).text);
  const now = { at: performance.now(), tokens: figures.oftd_generation_tokens_total };
  if (now.tokens === undefined)
    return;
  const rate = before ? Math.max(0, 1000 * (now.tokens - before.tokens) / (now.at - before.at)) : 0;
  const { oftd_num_requests_running: running, oftd_num_requests_waiting: waiting, oftd_kv_cache_usage_ratio: kv } = figures;
  before = now;
  plots.rate.add(rate);
  plots.queue.add(running, waiting);
  plots.kv.add(kv);
  byId("rate").textContent = rate < 10 ? rate.toFixed(1) : rate.toFixed(0);
  byId("queue").textContent = `${running}, ${waiting}`;
  byId("kv").textContent = kv ? percent(kv) : "0";
}
