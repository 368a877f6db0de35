// Drawings as SVG. Colours are the page's, so that they follow light and dark.

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [480, 320];
const BOX = { left: 76, right: 12, top: 14, bottom: 44 };

function element(name, attributes, parent, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/** Round steps from `low` to `high`, some five of them. */
export function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** The least and the greatest of numbers, apart from each other. */
export function range(values, [low, high] = [Infinity, -Infinity]) {
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

const shown = (value) => String(Number(value.toPrecision(6)));

/** An empty drawing with axes; gives where values lie. */
function axes(svg, { x, y, xLabel, yLabel, xTicks, yTicks }) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const [right, bottom] = [WIDTH - BOX.right, HEIGHT - BOX.bottom];
  const at = {
    x: (value) => BOX.left + ((value - x[0]) / (x[1] - x[0])) * (right - BOX.left),
    y: (value) => bottom - ((value - y[0]) / (y[1] - y[0])) * (bottom - BOX.top),
  };
  for (const value of xTicks ?? ticks(...x)) {
    const here = at.x(value);
    element("line", { x1: here, x2: here, y1: BOX.top, y2: bottom, class: "grid" }, svg);
    element("text", { x: here, y: bottom + 17, "text-anchor": "middle" }, svg, shown(value));
  }
  for (const value of yTicks ?? ticks(...y)) {
    const here = at.y(value);
    element("line", { x1: BOX.left, x2: right, y1: here, y2: here, class: "grid" }, svg);
    element("text", { x: BOX.left - 7, y: here + 4, "text-anchor": "end" }, svg, shown(value));
  }
  element("text", { x: (BOX.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle", class: "label" }, svg, xLabel);
  const middle = (BOX.top + bottom) / 2;
  const turned = { x: 0, y: 0, transform: `translate(18 ${middle}) rotate(-90)`, "text-anchor": "middle", class: "label" };
  element("text", turned, svg, yLabel);
  return at;
}

/** Lines over epochs: `lines` are {name, points: [[epoch, value]…], style}. */
export function curves(svg, { epochs, lines, yLabel, low }) {
  const values = lines.flatMap((line) => line.points.map((point) => point[1]));
  const y = range(values, low === undefined ? undefined : [low, low]);
  y[1] += (y[1] - y[0]) * 0.05;
  const x = [1, Math.max(2, epochs)];
  const at = axes(svg, { x, y, xLabel: "epoch", yLabel, xTicks: ticks(...x).filter(Number.isInteger) });
  for (const { points, style } of lines) {
    if (points.length === 0) continue;
    const path = points.map(([epoch, value], i) => `${i === 0 ? "M" : "L"}${at.x(epoch).toFixed(1)} ${at.y(value).toFixed(1)}`);
    element("path", { d: path.join(""), class: `line ${style}` }, svg);
    const [epoch, value] = points.at(-1);
    element("circle", { cx: at.x(epoch), cy: at.y(value), r: 3.5, class: `end ${style}` }, svg);
  }
}

/** Points in the plane, each coloured by a rating from 0 to 1; with `diagonal` the line where both axes agree. */
export function points(svg, { xs, ys, ratings, x, y, xLabel, yLabel, xTicks, yTicks, diagonal = false }) {
  const at = axes(svg, { x, y, xLabel, yLabel, xTicks, yTicks });
  if (diagonal) {
    const ends = { x1: at.x(0), x2: at.x(1), y1: at.y(0), y2: at.y(1) };
    element("line", { ...ends, class: "diagonal" }, svg);
  }
  for (let i = 0; i < ratings.length; i++) {
    const style = `fill: color-mix(in oklab, var(--low), var(--high) ${(100 * Math.min(1, Math.max(0, ratings[i]))).toFixed(0)}%)`;
    element("circle", { cx: at.x(xs[i]).toFixed(1), cy: at.y(ys[i]).toFixed(1), r: 4, class: "point", style }, svg);
  }
}
