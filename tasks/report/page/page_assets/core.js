// Elements, state, formats, and charts that redraw when the state or the width changes.
const page = JSON.parse(document.getElementById("data").textContent);
const state = { corpus: null, target: null, method: null, seed: "all", axes: "valence,arousal", dialogue: null };
const sections = [];

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const score = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits) : "–");
const signed = (value, digits = 3) => (isNumber(value) ? (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits) : "–");
const percent = (value) => (isNumber(value) ? `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %` : "–");
const count = (value) => (isNumber(value) ? value.toLocaleString("en-US") : "–");
const words = (text) => String(text).replaceAll("_", " ");
// A name that may break after its underscores.
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
const pValue = (p) => (!isNumber(p) ? "p undefined" : p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`);

const corpus = () => page.corpora[state.corpus];
const target = () => corpus().targets[state.target];
const isHidden = () => target()?.split === "validation"; // the corpus keeps the labels of test to itself
const part = () => (isHidden() ? "validation" : "test");
const ranked = () => (target() ? target().entries.filter((entry) => !entry.failed) : []);
const everyMethod = () => [...new Set(Object.values(corpus().targets).flatMap((t) => t.entries.map((e) => e.method)))];

// The seven best methods get a colour and a dash each, the others share a grey.
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "4 2", "1 3", "10 3"];
function looks(method) {
  const place = ranked().findIndex((entry) => entry.method === method);
  if (place < 0 || place >= 7) return { color: "var(--muted)", dash: "2 3" };
  return { color: `var(--c${place})`, dash: DASHES[place] };
}
const classColor = (index) => `var(--c${index % 7})`;
const SYMBOLS = ["circle", "square", "triangle", "diamond", "cross", "star", "wye"];

function section(id, title, intro, draw) {
  const body = h("div");
  const element = h("section", { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), intro ? h("p", { class: "note" }, intro) : null, body);
  sections.push({ id, title, element, body, draw });
}

function table(columns, rows, caption) {
  const isNumeric = columns.map((_, i) => rows.some((row) => isNumber(row[i]) || /^[+−\d]/.test(String(row[i] ?? ""))) && i > 0);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((name, i) => h("th", { scope: "col", class: isNumeric[i] ? "num" : null }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => {
        const text = cell instanceof Node ? cell : isNumber(cell) ? String(cell) : String(cell ?? "–");
        return i === 0 ? h("th", { scope: "row" }, text) : h("td", { class: isNumeric[i] ? "num" : "text" }, text);
      }))))));
}

// A chart with its caption, and the same values as a table for those who cannot see it.
function chart(label, draw, columns, rows) {
  const room = h("div");
  const figure = h("figure", {}, room, h("figcaption", {}, label));
  const paint = () => {
    const width = Math.max(240, room.clientWidth || 600);
    const drawn = draw(width);
    const svgs = drawn.matches("svg") ? [drawn] : [...drawn.querySelectorAll("svg")];
    for (const svg of svgs) { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", label); }
    room.replaceChildren(drawn);
  };
  figure.paint = paint;
  if (columns) {
    const box = h("details", {}, h("summary", {}, "Show the values as a table"));
    box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(table(columns, rows(), label)); });
    figure.append(box);
  }
  return figure;
}

const plot = (width, options) => Plot.plot({
  width, style: { background: "none", color: "var(--ink)", fontSize: "12px", overflow: "visible" },
  marginLeft: 46, marginRight: 16, marginTop: 28, marginBottom: 40, ...options,
});
const tip = { tip: { fill: "var(--panel)", stroke: "var(--line)" } };

function methodLegend(methods) {
  const others = methods.filter((m) => looks(m).color === "var(--muted)");
  const shown = methods.filter((m) => !others.includes(m));
  const line = (style) => {
    const svg = d3.create("svg").attr("width", 26).attr("height", 8).attr("aria-hidden", "true");
    svg.append("line").attr("x2", 26).attr("y1", 4).attr("y2", 4).attr("stroke-width", 2.5)
      .style("stroke", style.color).attr("stroke-dasharray", style.dash);
    return svg.node();
  };
  return h("ul", { class: "legend" }, shown.map((m) => h("li", {}, line(looks(m)), m)),
    others.length ? h("li", {}, line(looks(others[0])), others.length === 1 ? others[0] : `${others.length} further methods`) : null);
}

function colorLegend(names, colors, symbols) {
  return h("ul", { class: "legend" }, names.map((name, i) => {
    const svg = d3.create("svg").attr("width", 12).attr("height", 12).attr("viewBox", "-6 -6 12 12").attr("aria-hidden", "true");
    const kinds = { circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond, cross: d3.symbolCross, star: d3.symbolStar, wye: d3.symbolWye };
    svg.append("path").attr("d", d3.symbol(kinds[symbols ? symbols[i % symbols.length] : "square"], 60)()).style("fill", colors(i));
    return h("li", {}, svg.node(), name);
  }));
}

function draw(only) {
  for (const each of sections) {
    if (only && !only.includes(each.id)) continue;
    const content = each.draw();
    each.element.hidden = content === null;
    each.body.replaceChildren(...(content === null ? [] : [content].flat(3).filter(Boolean)));
    for (const figure of each.body.querySelectorAll("figure")) if (figure.paint) figure.paint();
  }
}

const say = (text) => { document.getElementById("live").textContent = text; };
