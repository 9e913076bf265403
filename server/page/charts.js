/*
 * Two drawings, made of plain SVG: a spark line of what was, and the bars of a merge report. Colours
 * come from page.css by class, so that both schemes fit. What a drawing shows is also said in words.
 */
import { draw, make, percent } from "./dom.js";

const LENGTH = 120;

/* One series on a fixed window: the newest value is at the right edge. */
export class Spark {
  constructor(svg, { series = 1, top = null } = {}) {
    this.svg = svg;
    this.top = top;
    this.values = Array.from({ length: series }, () => []);
    svg.setAttribute("viewBox", `0 0 ${LENGTH - 1} 32`);
    svg.setAttribute("preserveAspectRatio", "none");
    this.area = svg.appendChild(draw("polygon", { class: "area" }));
    this.lines = this.values.map((_, i) =>
      svg.appendChild(draw("polyline", { class: `line line-${i}`, "vector-effect": "non-scaling-stroke" })));
  }

  add(...values) {
    values.forEach((v, i) => this.values[i].push(v));
    for (const v of this.values)
      v.splice(0, v.length - LENGTH);
    const top = this.top || Math.max(1, ...this.values.flat());
    const points = this.values.map((list) =>
      list.map((v, i) => `${LENGTH - list.length + i},${(31 - 29 * Math.min(1, v / top)).toFixed(2)}`));
    points.forEach((p, i) => this.lines[i].setAttribute("points", p.join(" ")));
    const first = LENGTH - points[0].length;
    this.area.setAttribute("points", [`${first},32`, ...points[0], `${LENGTH - 1},32`].join(" "));
  }
}

function layerOf(name) {
  return name.match(/\.(\d+)\./)?.[1];
}

const TOP = 16, BASE = 104; /* pixels; along x all is in percent, so that text keeps its size */

function bars(modules, top) {
  const step = 100 / modules.length;
  return modules.flatMap((m, i) => {
    const x = `${i * step}%`, height = Math.max(0.5, (BASE - TOP) * m.rel_fro / top);
    const bar = draw("rect", { class: "bar", x, y: BASE - height, width: `${step * 0.78}%`, height },
      draw("title", {}, `${m.name}: ${percent(m.rel_fro)}`));
    const layer = layerOf(m.name);
    if (layer === undefined || (i && layer === layerOf(modules[i - 1].name)))
      return [bar];
    return [draw("text", { class: "tick", x, y: BASE + 14 }, layer), bar];
  });
}

/* The report of a merge: what requantizing cost each module. */
export function mergeFigure(reply) {
  const { rel_fro: { max, mean }, modules, orthogonality_defect: defect } = reply.report;
  const top = max > 0 ? max : 1;
  const words = `${reply.dry_run ? "Would merge" : "Merged"} ${reply.modules} modules: ` +
    `relative error ${percent(mean)} in the mean, ${percent(max)} at most`;
  const at = BASE - (BASE - TOP) * mean / top;
  const svg = draw("svg", { class: "report", role: "img", "aria-label": words },
    draw("text", { class: "tick", x: 0, y: TOP - 5 }, `error by layer and module, up to ${percent(max)}`), ...bars(modules, top),
    draw("line", { class: "rule", x1: 0, x2: "100%", y1: at, y2: at }, draw("title", {}, `mean ${percent(mean)}`)));
  const rows = modules.map((m) => make("tr", {}, make("th", { scope: "row" }, m.name), make("td", {}, m.backend),
    make("td", { class: "number" }, percent(m.rel_fro))));
  const head = make("tr", {}, ...["module", "back end", "error"].map((t) => make("th", { scope: "col" }, t)));
  return make("figure", { class: "merge" },
    make("figcaption", {}, `${words}; orthogonality defect ${defect.toPrecision(2)}.`), svg,
    make("details", {}, make("summary", {}, "Every module"),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Errors by module" },
        make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)))));
}
