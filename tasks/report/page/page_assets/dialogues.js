// Dialogues of the test split: packed numbers unpacked, and turns with truth and prediction.
function bytes(text) {
  const raw = atob(text);
  const array = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) array[i] = raw.charCodeAt(i);
  return array.buffer;
}

const unpacked = new Map();
function unpack(name, text) {
  const key = `${state.corpus}\n${name}\n${text.length}\n${text}`;
  if (unpacked.has(key)) return unpacked.get(key);
  const shape = corpus().targets[name];
  let result;
  if (shape.kind === "category") result = [...new Uint8Array(bytes(text))].map((c) => (c === 255 ? null : c));
  else if (shape.kind === "labels") {
    result = [...new Uint32Array(bytes(text))].map((bits) => (bits >>> 31 ? null : shape.names.filter((_, i) => (bits >>> i) & 1)));
  } else {
    const flat = new Int16Array(bytes(text));
    const width = shape.names.length;
    result = d3.range(flat.length / width).map((i) => shape.names.map((_, k) => (flat[i * width + k] === -32768 ? null : flat[i * width + k] / 1000)));
  }
  unpacked.set(key, result);
  return result;
}

const shownSeed = () => (corpus().dialogues.seeds.map(String).includes(state.seed) ? state.seed : String(corpus().dialogues.seeds[0]));
function truths(name) {
  const text = corpus().dialogues.truth[name];
  return text === undefined ? null : unpack(name, text);
}
function decoded(name, method) {
  const text = corpus().dialogues.predictions[method]?.[shownSeed()]?.[name];
  return text === undefined ? null : unpack(name, text);
}
const uttered = (i) => `${corpus().dialogues.utterances.utterance_id[i]}: ${(corpus().dialogues.utterances.text[i] ?? "no text").slice(0, 70)}`;

function turn(i, categories, classes) {
  const { utterances, faces } = corpus().dialogues;
  const [truth, guess] = [categories.truth?.[i], categories.guess?.[i]];
  const kind = target()?.kind !== "labels" && isNumber(truth) && isNumber(guess) ? (truth === guess ? "hit" : "miss") : null;
  const face = faces[i] ? h("img", { src: `data:image/jpeg;base64,${faces[i]}`, alt: "", width: 48, height: 48 }) : h("span", { class: "face", "aria-hidden": "true" }, "–");
  const name = (code) => (isNumber(code) ? words(classes[code]) : "not annotated");
  return h("li", { class: kind }, face,
    h("div", {}, h("p", { class: "said" }, `${utterances.speaker[i] ?? "unknown speaker"} · ${utterances.utterance_id[i]}${isNumber(utterances.start_s[i]) ? ` · ${utterances.start_s[i].toFixed(1)} s` : ""}`),
      h("p", {}, utterances.text[i] ?? h("span", { class: "soft" }, "no text"))),
    target()?.kind === "labels" ? h("p", { class: "guess" }, `true: ${labelSet(truths(state.target)?.[i])}`, h("br"), `predicted: ${labelSet(decoded(state.target, state.method)?.[i])}`)
      : categories.truth || categories.guess ? h("p", { class: "guess" }, `true: ${name(truth)}`, h("br"), categories.guess ? `predicted: ${name(guess)}${kind === "hit" ? " ✓" : kind === "miss" ? " ✗" : ""}` : null) : h("p", { class: "guess" }, otherTargets(i)));
}

const labelSet = (names) => (names ? names.map(words).join(", ") || "none" : "not annotated");

function otherTargets(i) {
  const lines = [];
  for (const [name, shape] of Object.entries(corpus().targets)) {
    const [truth, guess] = [truths(name)?.[i], decoded(name, state.method)?.[i]];
    const text = (v) => (v ? (shape.kind === "labels" ? v.join(", ") || "none" : shape.names.map((n, k) => `${words(n)} ${score(v[k], 2)}`).join(", ")) : "–");
    if (shape.kind !== "category" && (truth || guess)) lines.push(h("span", {}, `${words(name)}: true ${text(truth)}; predicted ${text(guess)}`, h("br")));
  }
  return lines;
}

function paths(indices) {
  return ["vad", "sentiment", "emi"].filter((name) => truths(name) && (name === "vad" || name === state.target)).flatMap((name) => {
    const [truth, guess] = [truths(name), decoded(name, state.method)];
    return corpus().targets[name].names.map((dimension, k) => {
      const rows = indices.flatMap((i, n) => [{ turn: n + 1, value: truth[i]?.[k], who: "true" }, { turn: n + 1, value: guess?.[i]?.[k], who: "predicted" }]).filter((r) => isNumber(r.value));
      if (!rows.length) return null;
      const low = { vad: -1, sentiment: -3, emi: 0 }[name];
      const high = { vad: 1, sentiment: 3, emi: 1 }[name];
      const span = [Math.min(low, d3.min(rows, (r) => r.value)), Math.max(high, d3.max(rows, (r) => r.value))];
      const line = (who, style) => [Plot.line(rows.filter((r) => r.who === who), { x: "turn", y: "value", ...style }), Plot.dot(rows.filter((r) => r.who === who), { x: "turn", y: "value", fill: style.stroke, r: 2.5, symbol: who === "true" ? "circle" : "square", ...tip, title: (d) => `turn ${d.turn}, ${d.who}: ${d.value.toFixed(2)}` })];
      return chart(`${words(dimension)} over the turns (solid: true, dashed: predicted)`, (width) => plot(width, {
        height: 170, x: { label: "turn", domain: [1, Math.max(2, indices.length)], ticks: Math.min(8, indices.length), tickFormat: "d" }, y: { label: words(dimension), domain: span, ticks: 5 },
        marks: [Plot.ruleY([0], { stroke: "var(--line)" }), ...line("true", { stroke: "var(--c0)", strokeWidth: 2 }), ...line("predicted", { stroke: "var(--c1)", strokeWidth: 2, strokeDasharray: "5 3" })],
      }), ["turn", "true", "predicted"], () => indices.map((i, n) => [n + 1, score(truth[i]?.[k], 2), score(guess?.[i]?.[k], 2)]));
    });
  }).filter(Boolean);
}

section("dialogues", "Dialogues", "Test dialogues turn by turn, with the predictions of the chosen method and seed, and the path through valence, arousal and dominance.", () => {
  const found = corpus().dialogues;
  const groups = d3.group(d3.range(found.utterances.utterance_id.length), (i) => found.utterances.dialogue_id[i]);
  if (!groups.size) return null;
  if (!groups.has(state.dialogue)) state.dialogue = groups.keys().next().value;
  const classes = corpus().targets.category?.names ?? [];
  const categories = { truth: truths("category"), guess: decoded("category", state.method) };
  const hits = (indices) => {
    const judged = target()?.kind === "labels" ? [] : indices.filter((i) => isNumber(categories.truth?.[i]) && isNumber(categories.guess?.[i]));
    return judged.length ? ` (${judged.filter((i) => categories.truth[i] === categories.guess[i]).length} of ${judged.length} right)` : ` (${indices.length} turns)`;
  };
  const select = h("select", { id: "dialogue", onchange: () => { state.dialogue = select.value; draw(["dialogues"]); document.getElementById("dialogue").focus(); } },
    [...groups].map(([name, indices]) => h("option", { value: name, selected: name === state.dialogue }, name + hits(indices))));
  const step = (by) => () => {
    const names = [...groups.keys()];
    state.dialogue = names[(names.indexOf(state.dialogue) + by + names.length) % names.length];
    draw(["dialogues"]);
    say(`Dialogue ${state.dialogue}`);
  };
  const indices = groups.get(state.dialogue);
  const shown = found.utterances.utterance_id.length;
  return [h("div", { class: "tools" }, h("label", {}, "Dialogue ", select), h("button", { type: "button", onclick: step(-1) }, "previous"), h("button", { type: "button", onclick: step(1) }, "next"),
    h("span", { class: "soft" }, `${state.method}, seed ${shownSeed()}`)),
  h("ul", { class: "turns" }, indices.map((i) => turn(i, categories, classes))), h("div", { class: "grid" }, paths(indices)),
  h("p", { class: "note" }, [`Predictions of ${found.seeds.length === 1 ? `seed ${found.seeds[0]}` : `seeds ${found.seeds.join(", ")}`} are in this page.`,
    shown < found.total ? ` ${count(shown)} of ${count(found.total)} test utterances are in it, to keep it small.` : "",
    found.faces_allowed ? "" : " Face crops are left out; report.allow_faces in params.yaml would show them."].join(""))];
});
