// The corpus and the run: labels, agreement, clips, leaks, provenance.
const SPLIT_COLOR = { train: "var(--c0)", validation: "var(--c4)", test: "var(--c1)" };

const classSymbol = (code) => SYMBOLS[(code + Math.floor(code / 7)) % 7]; // colours repeat after 7
const groupColor = (code) => (code < 0 ? "var(--soft)" : classColor(code));

// One bar for each split and name; counts by split, totals by split.
function shares(label, names, splits, counts, totals) {
  const rows = splits.flatMap((split) => names.map((name, i) => ({ split, name: words(name), n: counts[split][i], share: counts[split][i] / (totals[split] || 1) })));
  return chart(label, (width) => plot(width, {
    height: 50 + 42 * names.length, marginLeft: 96, x: { label: "share of the split", tickFormat: ".0%", grid: true, ticks: Math.min(10, Math.floor(width / 90)) }, y: { domain: splits, axis: null }, fy: { domain: names.map(words), label: null, padding: 0.2 },
    marks: [Plot.barX(rows, { x: "share", y: "split", fy: "name", fill: (d) => SPLIT_COLOR[d.split], ...tip, title: (d) => `${d.name}, ${d.split}: ${d.n} (${percent(d.share)})` })],
  }), ["label", ...splits], () => names.map((name, i) => [words(name), ...splits.map((s) => count(counts[s][i]))]));
}

function plane(found) {
  const points = found.points.valence.map((v, i) => ({ valence: v / 100, arousal: found.points.arousal[i] / 100, code: found.points.category[i] }));
  if (!points.length) return null;
  const names = [...found.classes.map((name, code) => ({ name: words(name), code })), { name: "no category", code: -1 }];
  const groups = names.map((g) => ({ ...g, rows: points.filter((p) => p.code === g.code), symbol: g.code < 0 ? "circle" : classSymbol(g.code) })).filter((g) => g.rows.length);
  const step = 2 / found.density.cells;
  const cells = found.density.counts.flatMap((row, i) => row.map((n, j) => ({ x1: -1 + i * step, x2: -1 + (i + 1) * step, y1: -1 + j * step, y2: -1 + (j + 1) * step, n }))).filter((c) => c.n);
  const most = d3.max(cells, (c) => c.n);
  const at = { x: "valence", y: "arousal" };
  return h("div", {}, h("h3", {}, "Where the categories lie"), colorLegend(groups.map((g) => g.name), (i) => groupColor(groups[i].code), groups.map((g) => g.symbol)),
    chart(`Valence and arousal of ${count(points.length)} of ${count(found.points.of)} utterances; grey cells: density of all; lines: density by category`, (width) => plot(Math.min(width, 520), {
      height: Math.min(width, 520), x: { domain: [-1.05, 1.05], label: "valence" }, y: { domain: [-1.05, 1.05], label: "arousal" },
      marks: [Plot.rect(cells, { x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill: "var(--muted)", fillOpacity: (d) => 0.45 * Math.sqrt(d.n / most), inset: 0 }),
        Plot.ruleX([0], { stroke: "var(--line)" }), Plot.ruleY([0], { stroke: "var(--line)" }),
        ...groups.filter((g) => g.rows.length > 4 && g.code >= 0).map((g) => Plot.density(g.rows, { ...at, stroke: classColor(g.code), bandwidth: 22, thresholds: 4, strokeOpacity: 0.8, clip: true })),
        ...groups.map((g) => Plot.dot(g.rows, { ...at, fill: groupColor(g.code), r: 2, symbol: g.symbol, fillOpacity: 0.7, ...tip, title: (d) => `${g.name}: ${d.valence.toFixed(2)}, ${d.arousal.toFixed(2)}` }))],
    }), ["category", "utterances", "mean valence", "mean arousal"], () => groups.map((g) => [g.name, count(g.rows.length), score(d3.mean(g.rows, (r) => r.valence), 2), score(d3.mean(g.rows, (r) => r.arousal), 2)])));
}

function spreads(found) {
  const rows = Object.entries(found.boxes).flatMap(([dim, boxes]) => boxes.map((b) => ({ ...b, dim, name: words(b.category) })));
  if (!rows.length) return null;
  const splits = [...new Set(rows.map((r) => r.split))];
  const dims = [...new Set(rows.map((r) => r.dim))];
  const fill = (d) => SPLIT_COLOR[d.split];
  const at = { y: "split", fy: "name" };
  const one = (dim) => {
    const mine = rows.filter((r) => r.dim === dim);
    return h("div", {}, h("h3", {}, `${words(dim)} by category`), colorLegend(splits, (i) => SPLIT_COLOR[splits[i]]), chart(`${words(dim)} by category: median, middle half (box), and the last values within 1.5 times its length (line)`, (width) => plot(width, {
      height: 50 + (12 + 14 * splits.length) * found.classes.length, marginLeft: 96, x: { domain: [-1, 1], grid: true, label: words(dim) }, y: { domain: splits, axis: null }, fy: { label: null, domain: found.classes.map(words), padding: 0.2 },
      marks: [Plot.ruleX([0], { stroke: "var(--line)" }), Plot.ruleY(mine, { x1: "low", x2: "high", ...at, stroke: fill }),
        Plot.barX(mine, { x1: "first", x2: "third", ...at, fill, fillOpacity: 0.75, insetTop: 2, insetBottom: 2, ...tip, title: (d) => `${d.name}, ${d.split}: median ${score(d.median, 2)}, mean ${score(d.mean, 2)}, ${count(d.n)} utterances, ${count(d.outside)} beyond the line` }),
        Plot.tickX(mine, { x: "median", ...at, stroke: "var(--ink)", strokeWidth: 2 })],
    }), ["category", "split", "utterances", "mean", "low", "25 %", "median", "75 %", "high", "beyond"], () => mine.map((r) => [r.name, r.split, count(r.n), ...["mean", "low", "first", "median", "third", "high"].map((k) => score(r[k], 2)), count(r.outside)])));
  };
  return dims.map(one);
}

function together(sets) {
  const names = sets.labels.map(words);
  const cells = names.flatMap((row, i) => names.map((column, j) => ({ row, column, n: sets.together[i][j], share: sets.together[i][j] / (sets.together[i][i] || 1) })));
  return h("div", {}, h("h3", {}, "Labels that stand together"), chart("Share of the utterances with the label of the row that also have the label of the column", (width) => plot(width, {
    height: 110 + Math.max(18, 30 - names.length / 2) * names.length, marginLeft: 104, marginBottom: 96, x: { label: null, domain: names, tickRotate: -50 }, y: { label: null, domain: names },
    marks: [Plot.cell(cells, { x: "column", y: "row", fill: "var(--c0)", fillOpacity: (d) => (d.row === d.column ? 0.06 : d.share), ...tip, title: (d) => (d.row === d.column ? `${d.row}: ${count(d.n)}` : `${d.row} with ${d.column}: ${count(d.n)} (${percent(d.share)})`) }),
      names.length > 6 ? null : Plot.text(cells, { x: "column", y: "row", text: (d) => (d.row === d.column ? count(d.n) : percent(d.share)), fill: (d) => (d.row !== d.column && d.share > 0.6 ? "var(--panel)" : "var(--ink)"), fontSize: 10, pointerEvents: "none" })],
  }), ["label", ...names], () => names.map((name, i) => [name, ...sets.together[i].map(count)])));
}

const MERGED = 4; // bins of 0.025 are too narrow for a line on a screen; the files have them all

function histogram(name, counts, found, splits) {
  const [low, high] = found.ranges[name];
  const fine = counts[splits[0]].length;
  const bins = Math.ceil(fine / MERGED);
  const step = (MERGED * (high - low)) / fine;
  const merged = Object.fromEntries(splits.map((s) => [s, d3.range(bins).map((i) => d3.sum(counts[s].slice(i * MERGED, (i + 1) * MERGED)))]));
  const rows = splits.flatMap((split) => {
    const total = d3.sum(merged[split]) || 1;
    // every step reaches from one edge of its bin to the other, the last one too
    return [...merged[split], merged[split].at(-1)].map((n, i) => ({ split, x: low + step * i, share: n / total, n }));
  });
  return h("div", {}, h("h3", {}, `${words(name)} by split`), colorLegend(splits, (i) => SPLIT_COLOR[splits[i]]), chart(`Distribution of ${words(name)}, share within the split in steps of ${Number(step.toFixed(3))}`, (width) => plot(width, {
    height: 190, x: { label: words(name), domain: [low, high] }, y: { label: "share", tickFormat: ".0%", grid: true, zero: true, ticks: 5 },
    marks: splits.map((split, k) => Plot.line(rows.filter((r) => r.split === split), { x: "x", y: "share", stroke: SPLIT_COLOR[split], strokeWidth: 2, strokeDasharray: DASHES[k], curve: "step-after", ...tip, title: (d) => `${d.split}, from ${d.x.toFixed(2)}: ${d.n}` })),
  }), ["from", "to", ...splits], () => d3.range(bins).map((i) => [(low + step * i).toFixed(2), (low + step * (i + 1)).toFixed(2), ...splits.map((s) => count(merged[s][i]))])));
}

section("dataset", "The data set", null, () => {
  const found = corpus().overview;
  const splits = found.splits.map((s) => s.split);
  const head = table(["split", "utterances", "dialogues", "speakers"], found.splits.map((s) => [s.split, count(s.utterances), count(s.dialogues), isNumber(s.speakers) ? count(s.speakers) : "not known"]), found.folds > 1 ? `First of ${found.folds} folds` : "What is in each split");
  const legend = () => colorLegend(splits, (i) => SPLIT_COLOR[splits[i]]);
  const figures = [];
  if (found.classes.length) {
    const totals = Object.fromEntries(splits.map((s) => [s, d3.sum(found.categories[s])]));
    figures.push(h("div", {}, h("h3", {}, "Categories by split"), legend(), shares("Share of each category within its split", found.classes, splits, found.categories, totals)));
  }
  figures.push(plane(found), ...(spreads(found) ?? []));
  if (found.sets.labels.length) {
    figures.push(h("div", {}, h("h3", {}, "Labels of sets by split"), legend(), shares(`Share of the utterances that have the label; ${count(found.sets.empty)} have none`, found.sets.labels, splits, found.sets.counts, found.sets.judged)), together(found.sets));
    const most = found.sets.cardinality[splits[0]].length;
    figures.push(h("div", {}, h("h3", {}, "How many labels an utterance has"), legend(), shares("Share of the utterances of a split with this many labels", d3.range(most).map(String), splits, found.sets.cardinality, found.sets.judged)));
  }
  for (const [name, counts] of Object.entries(found.histograms)) figures.push(histogram(name, counts, found, splits));
  return [head, h("div", { class: "grid" }, figures)];
});

section("agreement", "How far the raters agree", "1 is perfect agreement, 0 what chance would give. Krippendorff's alpha; ICC of one rater and of the average of all.", () => {
  const found = Object.entries(corpus().agreement.agreement ?? {}).filter(([, a]) => typeof a === "object" && a);
  if (!found.length) return h("p", {}, "The corpus has no judgements of several raters.");
  const kinds = ["alpha", "ICC, one rater", "ICC, average"];
  const rows = found.flatMap(([name, a]) => [[kinds[0], a.alpha_interval ?? a.alpha_nominal], [kinds[1], a.icc_single], [kinds[2], a.icc_average]].filter(([, v]) => isNumber(v)).map(([kind, value]) => ({ name: words(name), kind, value })));
  if (!rows.length) return h("p", {}, "With a single rater there is no agreement to measure.");
  return [colorLegend(kinds, (i) => classColor(i), SYMBOLS), chart("Agreement by target", (width) => plot(width, {
    height: 46 + 26 * found.length, marginLeft: Math.min(116, width * 0.32), x: { domain: [Math.min(0, d3.min(rows, (r) => r.value)), 1], grid: true, label: "agreement" }, y: { label: null, domain: found.map(([n]) => words(n)) }, symbol: { domain: kinds, range: SYMBOLS.slice(0, 3) },
    marks: [Plot.ruleX([0], { stroke: "var(--soft)" }), Plot.dot(rows, { x: "value", y: "name", fill: (d) => classColor(kinds.indexOf(d.kind)), symbol: "kind", r: 5, ...tip, title: (d) => `${d.name}, ${d.kind}: ${score(d.value)}` })],
  }), ["target", "alpha", "ICC, one rater", "ICC, average", "mean pairwise r", "raters", "utterances"], () => found.map(([name, a]) => [words(name), score(a.alpha_interval ?? a.alpha_nominal), score(a.icc_single), score(a.icc_average), score(a.mean_pairwise_pearson), count(a.raters), count(a.items)]))];
});

section("clips", "What became of every clip", "Nothing is dropped in silence: each stage says how many clips were fine, degraded or set aside, and why.", () => {
  const found = corpus().clips;
  const kinds = [["ok", "var(--c2)"], ["degraded", "var(--c4)"], ["quarantined", "var(--c1)"]];
  const rows = found.stages.map((s) => {
    const total = d3.sum(kinds, ([k]) => s[k] ?? 0) || 1;
    const bar = h("span", { class: "status", role: "img", "aria-label": kinds.map(([k]) => `${s[k] ?? 0} ${k}`).join(", ") }, kinds.map(([k, color]) => h("span", { style: `width:${(100 * (s[k] ?? 0)) / total}%;background:${color}` })));
    if (s.unfinished) return [s.stage, "–", "–", "–", "–", s.unfinished];
    return [s.stage, bar, ...kinds.map(([k]) => count(s[k] ?? 0)), Object.entries(s.reasons ?? {}).map(([reason, n]) => `${words(reason)} (${n})`).join(", ") || "none"];
  });
  return [colorLegend(kinds.map(([k]) => k), (i) => kinds[i][1]), table(["stage", "share", "ok", "degraded", "quarantined", "reasons"], rows, "Clips by stage and status"),
    found.set_aside ? h("details", {}, h("summary", {}, `Show ${found.examples.length} of ${count(found.set_aside)} rows that were set aside`), table(["clip", "stage", "reason", "detail"], found.examples.map((e) => [e.utterance_id, e.stage, words(e.reason), e.detail]), "Rows set aside")) : null];
});

section("leaks", "Leaks between the splits", null, () => {
  const found = corpus().leaks;
  const protocol = found.protocol ? `Splits by ${words(found.protocol)}. ` : "";
  if (!found.findings?.length) return h("p", {}, `${protocol}No leak was found between training, validation and test, and no feature column that is constant or gives the label away.`);
  return [h("p", { class: "note" }, protocol + "What training and test share although they should not, and feature columns that teach nothing or give the label away."),
    h("ul", { class: "plain" }, found.findings.map((f) => h("li", {}, h("span", { class: `badge ${f.severity === "warning" ? "warning-level" : f.severity}` }, f.severity), h("strong", {}, words(f.kind)), ": ", f.sentence, ".",
      f.examples?.length > 1 ? h("details", {}, h("summary", {}, "Examples"), h("ul", {}, f.examples.map((e) => h("li", {}, e)))) : null))),
    (found.notes ?? []).map((note) => h("p", { class: "note" }, note))];
});

section("provenance", "Where the numbers come from", null, () => {
  const found = page.provenance;
  const trained = (e) => (e.checkpoint === "None" ? "has none" : ["yes", "true"].includes(e.trained) ? "trained" : h("strong", { style: "color: var(--warn)" }, "NOT trained"));
  const versions = Object.entries(found.versions);
  return [
    h("p", {}, `Seeds: ${found.seeds.join(", ") || "none"}.${found.convention ? ` Definitions of the metrics: ${found.convention}.` : ""}`),
    table(["encoder", "weights", "family", "checkpoint", "used for", "hash"], found.encoders.map((e) => [e.name, trained(e), e.family, e.checkpoint === "None" ? "none needed" : e.checkpoint, e.used_for.join(", ") || "not used by methods", String(e.weights_sha256 ?? "").slice(0, 10)]), "Encoders"),
    versions.length ? h("p", { class: "note" }, `Libraries: ${versions.map(([k, v]) => `${k} ${v}`).join(", ")}.`) : null,
    found.methods.length ? h("details", {}, h("summary", {}, "Hashes of code and data of each training"), table(["training", "code", "features", "split", "data"], found.methods.map((m) => [m.run, h("code", {}, m.code), h("code", {}, m.features), h("code", {}, m.split), h("code", {}, m.data)]), "First ten digits, from dvc.lock; equal hashes mean equal inputs")) : null,
    h("details", {}, h("summary", {}, `All ${found.parameters.length} parameters`), table(["parameter", "value"], found.parameters, "params.yaml")),
  ];
});
