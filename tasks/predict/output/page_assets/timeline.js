// One medium over time: player, what is said now, lanes, words. The clock is the medium's own, or
// a plain one where there is nothing that can be played.
const data = JSON.parse(document.getElementById("data").textContent);
const all = data.utterances;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function h(tag, attributes = {}, ...children) {
  const inSvg = ["svg", "rect", "path", "line", "text", "title", "g", "defs", "pattern", "clipPath"].includes(tag);
  const element = inSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ends = all.map((u) => u.end_s);
const length_s = Math.max(data.medium.duration_s, 0.001, ...ends.slice(-1), ends.reduce((a, b) => Math.max(a, b), 0));
const two = (n) => String(n).padStart(2, "0");
function clock(s, tenths = false) {
  const t = Math.max(0, tenths ? Math.floor(s * 10) / 10 : Math.floor(s));
  const rest = tenths ? (t % 60).toFixed(1).padStart(4, "0") : two(t % 60);
  return t >= 3600 ? `${Math.floor(t / 3600)}:${two(Math.floor(t / 60) % 60)}:${rest}` : `${Math.floor(t / 60)}:${rest}`;
}
const spanOf = (g) => `${clock(g.start_s, g.end_s - g.start_s < 2)} to ${clock(g.end_s, g.end_s - g.start_s < 2)}`;
const percent = (p) => `${Math.round(100 * p)} %`;
const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(2);
const plain = (text) => String(text).replaceAll("_", " ");

// Colours: one for each category of the first target that has any, by name.
const target = all.flatMap((u) => Object.keys(u.classes)).find(Boolean);
const names = [...new Set(all.flatMap((u) => (u.classes[target] ? Object.keys(u.classes[target].probabilities) : [])))].sort();
const colour = (name) => (names.includes(name) ? `var(--c${names.indexOf(name) % 7})` : "var(--muted)");
const verdict = (u) => u.classes[target];
const columns = [...new Set(all.flatMap((u) => Object.entries(u.values).flatMap(([t, of]) => Object.keys(of).map((c) => `${t}\n${c}`))))]
  .map((key) => key.split("\n"));
const number = (u, [t, c]) => u.values[t]?.[c];
function scale(column) {
  const known = all.map((u) => number(u, column)).filter(Boolean).flatMap((n) => [n.value, n.low ?? n.value, n.high ?? n.value]);
  return [known.reduce((a, b) => Math.min(a, b), -1), known.reduce((a, b) => Math.max(a, b), 1)];
}
const scales = columns.map(scale);
const isPicture = data.medium.kind === "image"; // no time passes in it
const speakers = [...new Set(all.map((u) => u.speaker))];
const voice = (name) => name ?? "utterances";

// The clock ---------------------------------------------------------------------------------
let media = null, at_s = 0, isPlaying = false, since = 0;
let wanted_s = null; // where to go when the jump under way has landed: browsers can stall on many at once
function time() { return media ? wanted_s ?? media.currentTime : at_s; }
function seek(s, reveal = true) {
  const to = Math.min(Math.max(0, s), length_s);
  if (media?.seeking) wanted_s = to;
  else if (media) media.currentTime = to;
  at_s = to;
  show(reveal, to);
}
function landed() {
  const next = wanted_s;
  wanted_s = null;
  if (next === null) show(false, time());
  else seek(next, false);
}
function play(on) {
  // a pause before it has begun interrupts it (AbortError), which is no fault of the medium
  if (media) { if (on) media.play().catch((error) => { if (error.name === "NotSupportedError") unplayable(); }); else media.pause(); }
  else { isPlaying = on; since = performance.now(); paintPlay(); if (on) tick(); }
}
function paintPlay() { $("play").textContent = isPlaying ? "❚❚" : "▶"; $("play").setAttribute("aria-label", isPlaying ? "Pause" : "Play"); }
function tick() {
  if (!isPlaying) return;
  if (!media) {
    const now = performance.now();
    at_s += (now - since) / 1000;
    since = now;
    if (at_s >= length_s) { at_s = length_s; isPlaying = false; paintPlay(); }
  }
  show(false, time());
  requestAnimationFrame(tick);
}

function unplayable() {
  media = null;
  isPlaying = false;
  paintPlay();
  $("player").replaceChildren(h("p", { class: "note" }, `This browser cannot play ${data.medium.name}${data.source?.startsWith("data:") ? "" : ", or it is no longer where it was"}. The timeline works without it${data.medium.kind === "video" ? "; overlay.mp4, where it was written, can be played" : ""}.`));
}

function drawPlayer() {
  const { kind, size_px: size } = data.medium;
  const room = $("player");
  if (kind === "image") { room.append(h("img", { src: data.source, alt: data.medium.name })); }
  else if (kind === "text") { room.append(h("p", { class: "note" }, `${data.medium.name} holds words alone: there is nothing to see or hear.`)); }
  else if (!data.source) { unplayable(); return; }
  else {
    media = h(kind, { src: data.source, controls: kind === "audio", playsinline: true, preload: "auto" });
    media.addEventListener("error", unplayable);
    media.addEventListener("play", () => { isPlaying = true; paintPlay(); tick(); });
    media.addEventListener("pause", () => { isPlaying = false; paintPlay(); });
    media.addEventListener("seeked", landed);
    media.addEventListener("timeupdate", () => { if (!isPlaying) show(false, time()); });
    media.addEventListener("click", () => { if (kind === "video") play(media.paused); });
    room.append(media);
  }
  if (size && data.faces.length) room.append(h("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, id: "boxes", "aria-hidden": "true" }));
}

// Faces: between two looked-at frames a box moves evenly.
const paths = new Map();
for (const [utterance, time_s, track, ...box] of data.faces) {
  const key = `${utterance}\n${track}`;
  if (!paths.has(key)) paths.set(key, []);
  paths.get(key).push([time_s, box]);
}
function boxAt(path, s) {
  const after = path.findIndex(([t]) => t >= s);
  const [a, b] = [path[after - 1], path[after]];
  if (a && b && b[0] - a[0] <= 2.5) return a[1].map((v, i) => v + ((s - a[0]) / (b[0] - a[0])) * (b[1][i] - v));
  const near = [a ?? (after < 0 ? path[path.length - 1] : null), b].filter(Boolean).find(([t]) => Math.abs(t - s) <= 0.25);
  return isPicture ? path[0][1] : near?.[1];
}
function drawBoxes(current, s) {
  const room = $("boxes");
  if (!room) return;
  room.replaceChildren(...[...paths].flatMap(([key, path]) => {
    const u = current.find((each) => each.id === key.split("\n")[0]);
    const box = u && boxAt(path, s);
    return box ? [h("rect", { x: box[0], y: box[1], width: Math.max(0, box[2] - box[0]), height: Math.max(0, box[3] - box[1]), stroke: colour(verdict(u)?.label) })] : [];
  }));
}

// What is said now --------------------------------------------------------------------------
function panel(u) {
  const said = Object.entries(u.classes).map(([name, c]) => [
    h("h3", {}, `${plain(c.label)} ${percent(c.probabilities[c.label])}`, h("span", { class: "soft" }, ` ${name === "category" ? "" : plain(name)}${c.spread > 0.005 ? ` ± ${percent(c.spread)}` : ""}`)),
    h("div", { class: "bars" }, Object.entries(c.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 6).map(([label, p]) => {
      const bar = h("i");
      bar.style.cssText = `left:0;width:${100 * p}%;background:${name === target ? colour(label) : "var(--accent)"}`;
      return [h("span", {}, plain(label)), h("span", { class: "rail" }, bar), h("span", { class: "num" }, percent(p))];
    })),
  ]);
  const values = columns.flatMap((column, i) => {
    const n = number(u, column);
    if (!n) return [];
    const [low, high] = scales[i];
    const place = (v) => (100 * (v - low)) / (high - low);
    const range = h("i", { class: "range" }), dot = h("i", { class: "dot" });
    if (n.low !== null && n.high !== null) range.style.cssText = `left:${place(n.low)}%;width:${place(n.high) - place(n.low)}%;background:var(--c${i % 7})`;
    dot.style.cssText = `left:${place(n.value)}%;background:var(--c${i % 7})`;
    const interval = n.low === null || n.high === null ? "" : ` (${signed(n.low)} to ${signed(n.high)})`;
    return [h("span", {}, plain(column[1])), h("span", { class: "rail" }, range, dot), h("span", { class: "num" }, signed(n.value) + interval)];
  });
  return h("div", {},
    h("p", { class: "who" }, face(u), [u.speaker, isPicture ? null : `${clock(u.start_s, true)} to ${clock(u.end_s, true)}`, u.language].filter(Boolean).join(", ")),
    u.text ? h("p", {}, u.text) : null, said,
    u.reason ? h("p", { class: "warning" }, u.reason) : null, u.far ? h("p", { class: "warning" }, u.far) : null,
    values.length ? h("div", { class: "bars" }, values) : null,
    h("ul", { class: "seen" }, Object.entries(u.seen).map(([name, s]) => h("li", { class: s.status },
      `${name}: ${s.status}${s.reason ? `, ${plain(s.reason)}` : ""}${s.detail ? ` (${s.detail})` : ""}`))));
}
function drawNow(current, s) {
  if (current.length) { $("now").replaceChildren(...current.slice(0, 2).map(panel)); return; }
  const gap = data.gaps.find((g) => g.start_s <= s && s < g.end_s);
  $("now").replaceChildren(h("p", { class: "soft" }, gap ? `No utterance here: ${plain(gap.reason)}.` : "No utterance here."));
}

// Lanes -------------------------------------------------------------------------------------
let zoom = 1;
const state = { width: 0, key: null, rows: [] }; // key: what is on show, so that it is drawn once
function drawLanes() {
  const room = $("lanes");
  const width = (state.width = Math.max(260, room.clientWidth) * zoom);
  const x = (s) => (s / length_s) * width;
  const svg = h("svg", { height: 10, width, role: "img", "aria-label": "Emotions, values, faces and gaps over time; the list of words below says the same" });
  svg.append(h("defs", {}, h("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    h("rect", { width: 6, height: 6, fill: "var(--fill)" }), h("line", { y2: 6, stroke: "var(--muted)", "stroke-width": 3 }))));
  const labels = [];
  let y = 20;
  const lane = (name, height) => { labels.push([name, y]); const top = y + 15; y = top + height + 5; return top; };
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((s) => x(s) >= 70) ?? 7200;
  const ticks = Math.floor(length_s / step);
  for (let i = 0; i <= ticks && i < 3000; i += 1) svg.append(h("text", { class: "soft", x: x(i * step) + 3, y: 12 }, clock(i * step, step < 1)), h("line", { class: "tick", x1: x(i * step), x2: x(i * step), y1: 0, y2: 16, stroke: "var(--line)" }));
  for (const who of speakers) {
    const top = lane(voice(who), 24);
    for (const u of all) {
      if (u.speaker !== who) continue;
      const c = verdict(u), wide = Math.max(1.5, x(u.end_s) - x(u.start_s) - 0.5);
      svg.append(h("rect", { class: "turn", "data-id": u.id, x: x(u.start_s), y: top, width: wide, height: 24, rx: 3, fill: c ? colour(c.label) : "url(#hatch)", "fill-opacity": c ? 0.35 + 0.65 * c.probabilities[c.label] : 1,
        stroke: u.far ? "var(--ink)" : null, "stroke-width": 1.5, "stroke-dasharray": "4 3" },
        h("title", {}, `${clock(u.start_s)} ${c ? `${plain(c.label)} ${percent(c.probabilities[c.label])}` : u.reason}${u.text ? `: ${u.text.slice(0, 160)}` : ""}`)));
      if (c && wide > 7 * c.label.length + 8) svg.append(h("text", { class: "on", x: x(u.start_s) + 5, y: top + 16 }, plain(c.label)));
    }
  }
  columns.forEach((column, i) => {
    const tall = 46, top = lane(`${plain(column[1])}, ${scales[i].map((v) => signed(v)).join(" to ")}`, tall), [low, high] = scales[i];
    const at = (v) => (top + tall * (1 - (v - low) / (high - low))).toFixed(1);
    let band = "", line = "", last = null;
    for (const u of all) {
      const n = number(u, column);
      if (!n) { last = null; continue; } // no line across what was not understood
      const [a, b] = [x(u.start_s).toFixed(1), x(u.end_s).toFixed(1)];
      if (n.low !== null && n.high !== null) band += `M${a} ${at(n.high)}H${b}V${at(n.low)}H${a}Z`;
      line += `${last !== null && u.start_s - last < 1.5 ? "L" : "M"}${a} ${at(n.value)}H${b}`;
      last = u.end_s;
    }
    svg.append(h("line", { x2: width, y1: at(0), y2: at(0), stroke: "var(--line)" }),
      h("path", { d: band, fill: `var(--c${i % 7})`, "fill-opacity": 0.22, class: "band" }),
      h("path", { d: line, fill: "none", stroke: `var(--c${i % 7})`, "stroke-width": 2, class: "curve" }));
  });
  if (data.faces.length) {
    const top = lane("faces seen", 10);
    svg.append(h("path", { d: data.faces.map((f) => `M${x(f[1]).toFixed(1)} ${top}v10`).join(""), stroke: "var(--c5)", "stroke-width": 2 }));
  }
  for (const modality of data.modalities) {
    const top = lane(`${modality} seen`, 10), d = { ok: "", degraded: "", missing: "" };
    for (const u of all) if (u.seen[modality]) d[u.seen[modality].status] += `M${x(u.start_s).toFixed(1)} ${top}H${Math.max(x(u.start_s) + 1, x(u.end_s) - 0.5).toFixed(1)}v10H${x(u.start_s).toFixed(1)}Z`;
    svg.append(h("path", { d: d.ok, fill: "var(--c2)" }), h("path", { d: d.degraded, fill: "var(--c4)" }), h("path", { d: d.missing, fill: "url(#hatch)", stroke: "var(--c1)" }));
  }
  if (data.gaps.length) {
    const top = lane("gaps", 16);
    for (const g of data.gaps) {
      svg.append(h("rect", { class: "gap", x: x(g.start_s), y: top, width: Math.max(1, x(g.end_s) - x(g.start_s)), height: 16, fill: "url(#hatch)" }, h("title", {}, `${spanOf(g)}: ${plain(g.reason)}`)));
      if (x(g.end_s) - x(g.start_s) > 8 + 7 * g.reason.length) svg.append(h("text", { x: x(g.start_s) + 4, y: top + 12 }, plain(g.reason)));
    }
  }
  svg.setAttribute("height", y + 4);
  const fixed = labels.map(([name, top]) => { const s = h("span", {}, name); s.style.top = `${top}px`; return s; });
  room.replaceChildren(h("div", { class: "name" }, fixed), svg, h("div", { id: "cursor" }));
  moveCursor(time(), false);
}
function moveCursor(s, reveal) {
  const room = $("lanes"), x = (s / length_s) * state.width;
  const cursor = $("cursor");
  if (cursor) cursor.style.transform = `translateX(${x}px)`;
  const isOut = x < room.scrollLeft + 4 || x > room.scrollLeft + room.clientWidth - 4;
  if (zoom > 1 && isOut && (reveal || isPlaying)) room.scrollLeft = x - room.clientWidth * (isPlaying ? 0.1 : 0.5);
}
function setZoom(factor) {
  zoom = Math.min(Math.max(1, zoom * factor), Math.max(1, Math.min(length_s, 60000 / Math.max(260, $("lanes").clientWidth))));
  drawLanes();
  moveCursor(time(), true);
}

const hasFaces = Object.keys(data.portraits).length > 0;
function face(u) {
  const src = data.portraits[u.id];
  return src ? h("img", { class: "face", src, alt: "", loading: "lazy" }) : null; // who it is stands beside it
}

// Words -------------------------------------------------------------------------------------
function drawWords() {
  const gaps = data.gaps.filter((g) => g.end_s - g.start_s >= 1); // the lane has the short ones
  const items = [];
  const addGaps = (until) => { while (gaps.length && gaps[0].start_s < until) { const g = gaps.shift(); items.push(h("li", { class: "gap" }, `${spanOf(g)}: ${plain(g.reason)}`)); } };
  for (const u of all) {
    addGaps(u.start_s);
    const c = verdict(u);
    const row = h("button", { type: "button", "data-id": u.id, onclick: () => seek(u.start_s) },
      h("span", { class: "at" }, clock(u.start_s)),
      hasFaces ? face(u) ?? h("span", {}) : null,
      h("span", { class: u.text ? "text" : "text none" }, u.speaker ? h("b", {}, `${u.speaker}: `) : null, u.text || u.reason || "no words"),
      h("span", { class: "verdict" }, c ? `${plain(c.label)} ${percent(c.probabilities[c.label])}` : u.text && u.reason ? u.reason : ""));
    row.classList.toggle("faced", hasFaces);
    row.style.borderLeftColor = colour(c?.label);
    state.rows.push(row);
    items.push(h("li", {}, row));
  }
  addGaps(Infinity);
  $("words").replaceChildren(...items);
}

function show(reveal, s = time()) {
  const current = isPicture ? all : all.filter((u) => u.start_s <= s + 1e-3 && s < u.end_s - 1e-3);
  const key = current.map((u) => u.id).join(" ") || `gap ${data.gaps.findIndex((g) => g.start_s <= s && s < g.end_s)}`;
  $("clock").textContent = `${clock(s, true)} / ${clock(length_s)}`;
  $("seek").value = s;
  moveCursor(s, reveal);
  drawBoxes(current, s);
  if (key === state.key) return;
  state.key = key;
  drawNow(current, s);
  const ids = new Set(current.map((u) => u.id));
  for (const row of state.rows) {
    if (!ids.has(row.dataset.id)) { row.removeAttribute("aria-current"); continue; }
    row.setAttribute("aria-current", "true");
    const list = $("words"), top = row.parentElement.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 50) list.scrollTop = top - 40;
  }
}
function neighbour(direction) {
  const s = time();
  const found = direction > 0 ? all.find((u) => u.start_s > s + 0.05) : [...all].reverse().find((u) => u.start_s < s - 0.05);
  if (found) seek(found.start_s);
}

const KEYS = {
  " ": () => play(media ? media.paused : !isPlaying), ArrowLeft: () => seek(time() - 5), ArrowRight: () => seek(time() + 5),
  ArrowUp: () => neighbour(-1), ArrowDown: () => neighbour(1), Home: () => seek(0), End: () => seek(length_s),
  "+": () => setZoom(2), "=": () => setZoom(2), "-": () => setZoom(0.5),
};
document.addEventListener("keydown", (event) => {
  const isButton = event.target.closest?.("button, a, audio") && event.key === " ";
  if (event.ctrlKey || event.metaKey || event.altKey || isButton || isPicture || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("play").addEventListener("click", KEYS[" "]);
$("previous").addEventListener("click", () => neighbour(-1));
$("next").addEventListener("click", () => neighbour(1));
$("closer").addEventListener("click", () => setZoom(2));
$("farther").addEventListener("click", () => setZoom(0.5));
$("seek").max = length_s;
$("seek").addEventListener("input", () => seek(Number($("seek").value)));
$("lanes").addEventListener("click", (event) => {
  const box = $("lanes").getBoundingClientRect();
  seek(((event.clientX - box.left + $("lanes").scrollLeft) / state.width) * length_s, false);
});
const THEMES = [[null, "auto", "as the system has them"], ["light", "light", "light"], ["dark", "dark", "dark"]];
let theme = 0;
$("theme").addEventListener("click", () => {
  theme = (theme + 1) % THEMES.length;
  if (THEMES[theme][0]) document.documentElement.dataset.theme = THEMES[theme][0];
  else delete document.documentElement.dataset.theme;
  $("theme").textContent = `Colours: ${THEMES[theme][1]}`;
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[theme][2]}`);
});

const answered = all.filter((u) => Object.keys(u.classes).length || Object.keys(u.values).length).length;
$("summary").textContent = `${data.medium.name}${isPicture ? "" : `, ${clock(length_s)}`}: ${answered} of ${all.length} utterances understood, from ${data.modalities.join(", ") || "nothing"}; mean of ${data.networks} network${data.networks === 1 ? "" : "s"}, bands hold ${percent(data.coverage)} of validation rows.`;
$("notes").append(...data.notes.map((note) => h("p", { class: "warning" }, note)));
$("legend").append(...names.map((name) => {
  const mark = h("svg", { width: 12, height: 12, "aria-hidden": "true" }, h("rect", { width: 12, height: 12, rx: 2, fill: colour(name) }));
  return h("li", {}, mark, plain(name));
}), h("li", { class: "soft" }, "fainter: less sure"),
  all.some((u) => u.far) ? h("li", { class: "soft" }, "dashed edge: unlike the training data") : "",
  h("li", { class: "soft" }, "hatched: not understood, missing or nobody speaks"));
$("over-time").hidden = $("transport").hidden = isPicture;
drawPlayer();
drawWords();
drawLanes();
show(true, 0);
let wide = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== wide) { wide = window.innerWidth; drawLanes(); } });
document.documentElement.dataset.ready = "yes";
