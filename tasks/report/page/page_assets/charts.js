// Charts of one target: confusion, circumplex, coverage, robustness, contribution.
section("confusion", "Confusion matrix", "Rows are what the corpus says, columns what the method says. The shade is the share of the row. Counts are summed over the chosen seeds.", () => {
  const found = target()?.confusion?.[state.method];
  if (!found) return null;
  const names = target().names;
  const matrices = state.seed === "all" ? Object.values(found) : [found[state.seed] ?? Object.values(found)[0]];
  const total = names.map((_, i) => names.map((__, j) => d3.sum(matrices, (m) => m[i][j])));
  const cell = (value, sum, row, column) => {
    const share = sum ? value / sum : 0;
    return h("td", { style: `background: rgba(var(--heat), calc(var(--heat-top) * ${share.toFixed(3)}))`, title: `${names[row]} taken for ${names[column]}: ${value} of ${sum}` },
      h("span", { class: "cell" }, String(value), h("small", {}, percent(share))));
  };
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    h("table", { class: "matrix confusion" }, h("caption", {}, `${state.method}, ${isHidden() ? "validation, " : ""}${state.seed === "all" ? `${matrices.length} seeds together` : `seed ${state.seed}`}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "true ↓ predicted →"), names.map((n) => h("th", { scope: "col" }, words(n))))),
      h("tbody", {}, total.map((row, i) => h("tr", {}, h("th", { scope: "row" }, words(names[i])), row.map((v, j) => cell(v, d3.sum(row), i, j)))))));
});

const AXES = [["valence", "arousal"], ["valence", "dominance"], ["arousal", "dominance"]];
const MOST_ARROWS = 160;

section("circumplex", "Circumplex: true against predicted", "Each arrow goes from the true place of a test utterance to the predicted one; long arrows are large errors. Colour and shape are the true category.", () => {
  const vad = corpus().targets.vad;
  const rows = decoded("vad", state.method);
  if (!vad || !rows) return null;
  const [x, y] = state.axes.split(",");
  const [xi, yi] = [vad.names.indexOf(x), vad.names.indexOf(y)];
  const truth = truths("vad");
  const classes = corpus().targets.category?.names ?? [];
  const categories = truths("category");
  const points = [];
  rows.forEach((p, i) => {
    const t = truth[i];
    if ([t[xi], t[yi], p[xi], p[yi]].every(isNumber)) points.push({ i, tx: t[xi], ty: t[yi], px: p[xi], py: p[yi], category: classes[categories?.[i]] ?? "no category" });
  });
  if (!points.length) return null;
  const stride = Math.max(1, Math.ceil(points.length / MOST_ARROWS));
  const shown = points.filter((_, i) => i % stride === 0);
  const kinds = [...classes.filter((name) => shown.some((p) => p.category === name)), ...(shown.some((p) => p.category === "no category") ? ["no category"] : [])];
  const reach = Math.max(1.05, ...shown.flatMap((p) => [p.px, p.py].map(Math.abs))) + 0.02;
  const select = h("select", { onchange: () => { state.axes = select.value; draw(["circumplex"]); } },
    AXES.filter((pair) => pair.every((n) => vad.names.includes(n))).map((pair) => h("option", { value: pair.join(","), selected: pair.join(",") === state.axes }, `${pair[0]} and ${pair[1]}`)));
  const color = (name) => classColor(Math.max(0, kinds.indexOf(name)));
  const figure = chart(`${state.method}, seed ${shownSeed()}: ${shown.length} of ${points.length} test utterances. Hollow: true, filled: predicted.`, (width) => {
    const size = Math.min(width, 560);
    return plot(size, {
      height: size, marginLeft: 42, x: { domain: [-reach, reach], label: x, ticks: 5 }, y: { domain: [-reach, reach], label: y, ticks: 5 },
      symbol: { domain: kinds, range: kinds.map((_, i) => SYMBOLS[i % 7]) }, color: { domain: kinds, range: kinds.map(color) },
      marks: [
        Plot.line(d3.range(0, 361, 3).map((a) => [Math.cos(a * Math.PI / 180), Math.sin(a * Math.PI / 180)]), { stroke: "var(--line)" }),
        Plot.ruleX([0], { stroke: "var(--line)" }), Plot.ruleY([0], { stroke: "var(--line)" }),
        Plot.arrow(shown, { x1: "tx", y1: "ty", x2: "px", y2: "py", stroke: "category", strokeOpacity: 0.55, strokeWidth: 1.2, headLength: 9, inset: 3 }),
        Plot.dot(shown, { x: "tx", y: "ty", stroke: "category", symbol: "category", r: 3.2, fill: "var(--panel)", strokeWidth: 1.4 }),
        Plot.dot(shown, { x: "px", y: "py", fill: "category", symbol: "category", r: 3.2, ...tip, title: (d) => `${uttered(d.i)}\ntrue ${x} ${d.tx.toFixed(2)}, ${y} ${d.ty.toFixed(2)}\npredicted ${d.px.toFixed(2)}, ${d.py.toFixed(2)}` }),
      ],
    });
  }, ["utterance", "category", `true ${x}`, `true ${y}`, `predicted ${x}`, `predicted ${y}`], () => shown.map((p) => [corpus().dialogues.utterances.utterance_id[p.i], p.category, score(p.tx, 2), score(p.ty, 2), score(p.px, 2), score(p.py, 2)]));
  return [h("div", { class: "tools" }, h("label", {}, "Axes ", select)), colorLegend(kinds.map(words), (i) => classColor(i), SYMBOLS), figure];
});

function methodLines(points, methods, options) {
  const others = methods.filter((m) => m !== state.method);
  const line = (m) => Plot.line(points.filter((p) => p.method === m), { x: "x", y: "y", stroke: looks(m).color, strokeDasharray: looks(m).dash, strokeWidth: m === state.method ? 3.5 : 1.6 });
  return [...others.map(line), methods.includes(state.method) ? line(state.method) : null,
    Plot.tip(points, Plot.pointer({ x: "x", y: "y", fill: "var(--panel)", stroke: "var(--line)", title: options.title }))];
}

section("coverage", "How often the error is small", "Share of utterances whose absolute error is at most the value below; higher and further left is better. The area above a curve is the mean absolute error. The chosen method is drawn thick.", () => {
  const found = target()?.coverage;
  if (!found) return null;
  const methods = ranked().map((e) => e.method).filter((m) => found.curves[m]);
  const names = [...new Set(methods.flatMap((m) => Object.keys(found.curves[m])))];
  const figures = names.map((name) => {
    const points = methods.flatMap((method) => (found.curves[method][name] ?? []).map((y, i) => ({ method, x: found.limit * i / found.steps, y })));
    return h("div", {}, h("h3", {}, name === "joint" ? "all dimensions at once" : words(name)), chart(`Coverage of the absolute error on ${part()}, ${words(name)}`, (width) => plot(width, {
      height: 250, x: { label: "absolute error", domain: [0, found.limit] }, y: { label: "share of utterances", domain: [0, 1], tickFormat: ".0%", grid: true },
      marks: methodLines(points, methods, { title: (d) => `${d.method}: ${percent(d.y)} within ${d.x.toFixed(2)}` }),
    }), ["method", ...[0.1, 0.25, 0.5, 0.75, 1].map((s) => `within ${(s * found.limit).toFixed(2)}`)], () => methods.filter((m) => found.curves[m][name]).map((m) => [m, ...[0.1, 0.25, 0.5, 0.75, 1].map((s) => percent(found.curves[m][name][Math.round(s * found.steps)]))])));
  });
  return [found.is_cut ? h("p", { class: "note" }, `Some errors are larger than the scale is wide, ${found.limit}, and not drawn.`) : null, methodLegend(methods), h("div", { class: "grid" }, figures)];
});

const CALIBRATION = { raw: "as predicted", calibrated: "temperature of validation" };

section("reliability", "Can the confidence be believed?", "Reliability: how often the chosen method is right where it is so sure; on the diagonal its confidence can be taken at its word. Selective risk: its errors among the utterances it is surest of; a useful confidence rises from the left. Over all seeds on test; the temperature is fitted on validation and changes no prediction.", () => {
  const found = target()?.reliability?.[state.method];
  if (!found) return null;
  const kinds = Object.keys(CALIBRATION).filter((k) => found[k]);
  const color = (k) => classColor(kinds.indexOf(k));
  const bins = kinds.flatMap((kind) => found[kind].count.map((n, i) => ({ kind, n, x: found[kind].confidence[i], y: found[kind].accuracy[i] }))).filter((b) => b.n && isNumber(b.x));
  const risks = kinds.flatMap((kind) => found[kind].risk.map((y, i) => ({ kind, x: (i + 1) / found[kind].risk.length, y })));
  const lines = (rows) => kinds.map((k, i) => Plot.line(rows.filter((r) => r.kind === k), { x: "x", y: "y", stroke: color(k), strokeWidth: 2, strokeDasharray: DASHES[i] }));
  const hint = (rows, title) => Plot.tip(rows, Plot.pointer({ x: "x", y: "y", fill: "var(--panel)", stroke: "var(--line)", title }));
  const sure = chart(`${state.method}: share of right predictions by confidence; larger dots are more utterances`, (width) => plot(width, {
    height: 280, x: { label: "confidence", domain: [0, 1], tickFormat: ".0%" }, y: { label: "right", domain: [0, 1], tickFormat: ".0%", grid: true }, r: { range: [2, 9] },
    marks: [Plot.line([[0, 0], [1, 1]], { stroke: "var(--muted)", strokeDasharray: "2 3" }), ...lines(bins),
      Plot.dot(bins, { x: "x", y: "y", r: "n", fill: (d) => color(d.kind), fillOpacity: 0.7 }),
      hint(bins, (d) => `${CALIBRATION[d.kind]}: ${percent(d.y)} right where ${percent(d.x)} sure, ${count(d.n)} predictions`)],
  }), ["probabilities", "confidence", "right", "predictions"], () => bins.map((b) => [CALIBRATION[b.kind], percent(b.x), percent(b.y), count(b.n)]));
  const risk = chart(`${state.method}: share of wrong predictions among the most confident`, (width) => plot(width, {
    height: 280, x: { label: "share of utterances kept, the surest first", domain: [0, 1], tickFormat: ".0%" }, y: { label: "wrong", tickFormat: ".0%", grid: true, zero: true },
    marks: [...lines(risks), hint(risks, (d) => `${CALIBRATION[d.kind]}: ${percent(d.y)} wrong among the surest ${percent(d.x)}`)],
  }), ["probabilities", ...[0.25, 0.5, 0.75, 1].map((s) => `surest ${percent(s)}`)], () => kinds.map((k) => [CALIBRATION[k], ...[0.25, 0.5, 0.75, 1].map((s) => percent(found[k].risk[Math.round(s * found[k].risk.length) - 1]))]));
  return [colorLegend(kinds.map((k) => CALIBRATION[k]), (i) => classColor(i)), h("div", { class: "grid" }, h("div", {}, h("h3", {}, "Reliability"), sure), h("div", {}, h("h3", {}, "Selective risk"), risk))];
});

section("robustness", "When modalities are missing", "The score as a growing share of audio, video and text cells is hidden at test time, with the same masks for every method. The band is one standard deviation over the seeds of the chosen method.", () => {
  const found = target()?.rates;
  const methods = ranked().map((e) => e.method).filter((m) => Object.keys(found?.[m] ?? {}).length);
  if (!methods.length) return null;
  const rates = Object.keys(found[methods[0]]).sort((a, b) => a - b);
  const points = methods.flatMap((method) => rates.map((r) => ({ method, x: Number(r), y: found[method][r]?.[0], std: found[method][r]?.[1] })).filter((p) => isNumber(p.y)));
  if (!points.length) return null;
  const figure = chart(`${words(target().metric)} by share of missing cells`, (width) => plot(width, {
    height: 320, x: { label: "share of cells missing", tickFormat: ".0%" }, y: { label: words(target().metric), grid: true, nice: true },
    marks: [
      Plot.areaY(points.filter((p) => p.method === state.method && isNumber(p.std)), { x: "x", y1: (d) => d.y - d.std, y2: (d) => d.y + d.std, fill: looks(state.method).color, fillOpacity: 0.15 }),
      ...methodLines(points, methods, { title: (d) => `${d.method}: ${score(d.y)}${isNumber(d.std) ? ` ± ${score(d.std)}` : ""} with ${percent(d.x)} missing` }),
    ],
  }), ["method", ...rates.map((r) => percent(Number(r))), "average"], () => methods.map((m) => [m, ...rates.map((r) => score(found[m][r]?.[0])), score(d3.mean(rates, (r) => found[m][r]?.[0]))]));
  return [methodLegend(methods), figure];
});

section("training", "How training went", "The validation score of the chosen method after every epoch, a line for each run; the dot is the epoch that was kept.", () => {
  const runs = target()?.training?.[state.method] ?? [];
  if (!runs.length) return null;
  const seeds = [...new Set(runs.map((r) => r.seed))];
  const folds = new Set(runs.map((r) => r.fold)).size;
  const color = (seed) => classColor(seeds.indexOf(seed));
  const name = (r) => `seed ${r.seed}${folds > 1 ? `, fold ${r.fold}` : ""}`;
  const points = runs.flatMap((r) => r.epochs.map((epoch, i) => ({ run: name(r), seed: r.seed, epoch, y: r.scores[i], kept: epoch === r.chosen }))).filter((p) => isNumber(p.y));
  const late = runs.filter((r) => r.late).length;
  const figure = chart(`${state.method}: validation score by epoch, ${runs.length} runs`, (width) => plot(width, {
    height: 280, x: { label: "epoch", tickFormat: "d" }, y: { label: "validation score, higher is better", grid: true, nice: true },
    marks: [
      Plot.line(points, { x: "epoch", y: "y", z: "run", stroke: (p) => color(p.seed), strokeOpacity: 0.7, strokeWidth: 1.4 }),
      Plot.dot(points.filter((p) => p.kept), { x: "epoch", y: "y", fill: (p) => color(p.seed), r: 3.5 }),
      Plot.tip(points, Plot.pointer({ x: "epoch", y: "y", fill: "var(--panel)", stroke: "var(--line)", title: (p) => `${p.run}: ${score(p.y)} after epoch ${p.epoch}` })),
    ],
  }), ["run", "kept epoch", "its score", "last epoch"], () => runs.map((r) => [name(r), r.chosen, score(r.scores[r.epochs.indexOf(r.chosen)]), r.epochs.at(-1)]));
  return [late ? h("p", { class: "note" }, h("strong", {}, `${late} of ${runs.length} runs were at their best in the last tenth of the epochs they were given: `), "more epochs, or a higher learning rate, may help.") : null,
    colorLegend(seeds.map((s) => `seed ${s}`), (i) => classColor(i)), figure];
});

section("transfer", "Across corpora", "Rows: the corpus that the runs were trained on. Columns: the corpus whose test rows they predict. Cells off the diagonal are means over networks with 95 % intervals; nothing was trained or chosen on the other corpus.", () => {
  const corpora = Object.keys(page.corpora);
  const cells = page.cross_corpus.filter((c) => c.method === state.method && (c.target === state.target || c.target === null));
  if (!target() || !cells.length) return null;
  const [metric, axis] = [words(target().metric), ["trained on ↓ tested on →"]];
  const at = new Map(cells.map((c) => [`${c.trained_on}\n${c.tested_on}`, c]));
  const home = (name) => page.corpora[name].targets[state.target]?.entries.find((e) => e.method === state.method && e.split === "test" && !e.failed);
  const cell = (from, to) => {
    const found = from === to ? home(from)?.metric : at.get(`${from}\n${to}`);
    const why = found?.reason ?? (found ? found.remark : from === to ? "not judged" : "the corpora read different encoders");
    if (!isNumber(found?.mean)) return h("td", { title: why }, "–", h("span", { class: "hidden" }, ` ${why}`));
    const range = isNumber(found.ci_low) ? `${score(found.ci_low)} to ${score(found.ci_high)}` : null;
    return h("td", { class: from === to ? "num home" : "num", title: from === to ? "within the corpus" : `${count(found.n)} test rows, ${found.networks} networks` },
      h("span", { class: "cell" }, score(found.mean), range ? h("small", {}, range) : null));
  };
  const notes = cells.map((c) => {
    const pair = `${c.trained_on} on ${c.tested_on}`;
    if (c.reason) return `${pair}: ${c.reason}.`;
    const lost = [c.only_trained.length ? `only ${c.trained_on} has ${c.only_trained.join(", ")}` : "", c.only_tested.length ? `only ${c.tested_on} has ${c.only_tested.join(", ")}` : ""].filter(Boolean).join("; ");
    return `${pair}: ${c.names.length > 1 ? `${target().kind === "category" ? "classes" : "columns"} ${c.names.join(", ")}; ` : ""}${count(c.n)} test rows${c.rows_left_out ? `, ${count(c.rows_left_out)} left out` : ""}${lost ? ` (${lost})` : ""}${c.shared_media ? `; ${count(c.shared_media)} of these clips are in ${c.trained_on} too, so this is no clean transfer` : ""}.`;
  });
  const figures = page.curves_across.filter((c) => c.method === state.method && c.target === state.target).map(across);
  return [h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Across corpora" },
    h("table", { class: "matrix confusion" }, h("caption", {}, `${state.method}: ${metric} of ${words(state.target)}, ${target().higher ? "higher" : "lower"} is better`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, axis), corpora.map((n) => h("th", { scope: "col" }, n)))),
      h("tbody", {}, corpora.map((from) => h("tr", {}, h("th", { scope: "row" }, from), corpora.map((to) => cell(from, to))))))),
  h("p", { class: "note" }, target().kind === "values" ? "The diagonal is the score within the corpus." : "The diagonal is the score within the corpus on all its classes; off the diagonal only names that both corpora have count, so compare along a column with care."),
  h("ul", { class: "note" }, notes.map((n) => h("li", {}, n))), figures.length ? h("div", { class: "grid" }, figures) : null];
});

// How often the errors on another corpus are small: a line for each dimension, one for all at once.
function across(found) {
  const names = Object.keys(found.curves);
  const named = (name) => (name === "joint" ? "all at once" : words(name));
  const points = names.flatMap((name) => found.curves[name].shares.map((y, i) => ({ name, x: i * found.curves[name].step, y })));
  const share = (name, limit) => {
    const place = Number((limit / found.curves[name].step).toFixed(6));
    return Number.isInteger(place) ? found.curves[name].shares[place] ?? 1 : null;
  };
  return h("div", {}, h("h3", {}, `${found.trained_on} on ${found.tested_on}`), colorLegend(names.map(named), (i) => classColor(i)), chart(`${found.method}: share of the test utterances of ${found.tested_on} whose absolute error is at most the value below`, (width) => plot(width, {
    height: 250, x: { label: "absolute error" }, y: { label: "share of utterances", domain: [0, 1], tickFormat: ".0%", grid: true },
    marks: [...names.map((name, k) => Plot.line(points.filter((p) => p.name === name), { x: "x", y: "y", stroke: classColor(k), strokeWidth: 2, strokeDasharray: DASHES[k % 7] })),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", fill: "var(--panel)", stroke: "var(--line)", title: (d) => `${named(d.name)}: ${percent(d.y)} within ${d.x.toFixed(2)}` }))],
  }), ["dimension", "within 0.1", "within 0.2", "within 0.3", "within 0.5"], () => names.map((n) => [named(n), ...[0.1, 0.2, 0.3, 0.5].map((e) => percent(share(n, e)))])));
}

const MODALITY = { audio: "var(--c0)", video: "var(--c1)", text: "var(--c2)" };

section("contribution", "What each modality adds", null, () => {
  const found = target()?.contribution;
  const methods = ranked().map((e) => e.method).filter((m) => found?.shares[m] && Object.keys(found.shares[m]).length > 1);
  if (!methods.length) return null;
  const sign = target().higher ? 1 : -1;
  const used = ["audio", "video", "text"];
  const rows = methods.flatMap((method) => used.filter((m) => m in found.shares[method]).map((modality) => ({ method, modality, value: sign * found.shares[method][modality] })));
  const subsets = Object.keys(target().subsets[methods[0]]);
  const lost = ranked().map((e) => e.method).filter((m) => !found.shares[m] && Object.keys(target().subsets[m] ?? {}).length > 1);
  const figure = chart(`Shapley value of each modality in ${words(target().metric)}; positive helps`, (width) => plot(width, {
    height: 60 + 44 * methods.length, marginLeft: Math.min(130, width * 0.3), marginTop: 40, marginBottom: 10,
    x: { labelOffset: 34, label: `gain in ${words(target().metric)}`, grid: true, axis: "top", ticks: Math.max(3, Math.round(width / 110)) }, y: { domain: used, axis: null }, fy: { domain: methods, label: null, padding: 0.18 },
    marks: [Plot.barX(rows, { x: "value", y: "modality", fy: "method", fill: (d) => MODALITY[d.modality], ...tip, title: (d) => `${d.method}, ${d.modality}: ${signed(d.value)}` }), Plot.ruleX([0], { stroke: "var(--soft)" })],
  }), ["method", ...used, ...subsets], () => methods.map((m) => [m, ...used.map((k) => signed(sign * found.shares[m][k])), ...subsets.map((s) => score(target().subsets[m][s]?.[0]))]));
  return [h("p", { class: "note" }, `The average gain from adding a modality, over all orders of adding them (Shapley value over the subsets of modalities). ${found.floor === null ? "" : `Without any modality the score counts as ${score(found.floor)}${target().entries.some((e) => e.method === "constant" && !e.failed) ? ", that of the method constant" : ""}.`} The table also has the score with each subset alone.${lost.length ? ` ${lost.join(", ")} ${lost.length > 1 ? "are" : "is"} left out, because a subset was not scored.` : ""}`),
    colorLegend(used, (i) => MODALITY[used[i]]), figure];
});
