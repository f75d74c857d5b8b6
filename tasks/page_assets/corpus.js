// The corpus and the run: labels, agreement, clips, leaks, times, provenance.
const SPLIT_COLOR = { train: "var(--c0)", validation: "var(--c4)", test: "var(--c1)" };

section("data", "The data set", null, () => {
  const found = corpus().overview;
  const splits = found.splits.map((s) => s.split);
  const parts = [table(["split", "utterances", "dialogues", "speakers"], found.splits.map((s) => [s.split, count(s.utterances), count(s.dialogues), count(s.speakers)]), found.folds > 1 ? `First of ${found.folds} folds` : "What is in each split")];
  const figures = [];
  if (found.classes.length) {
    const rows = splits.flatMap((split) => {
      const total = d3.sum(found.categories[split]) || 1;
      return found.classes.map((name, i) => ({ split, name: words(name), n: found.categories[split][i], share: found.categories[split][i] / total }));
    });
    figures.push(h("div", {}, h("h3", {}, "Categories by split"), colorLegend(splits, (i) => SPLIT_COLOR[splits[i]]), chart("Share of each category within its split", (width) => plot(width, {
      height: 50 + 42 * found.classes.length, marginLeft: 84, x: { label: "share of the split", tickFormat: ".0%", grid: true }, y: { domain: splits, axis: null }, fy: { domain: found.classes.map(words), label: null, padding: 0.2 },
      marks: [Plot.barX(rows, { x: "share", y: "split", fy: "name", fill: (d) => SPLIT_COLOR[d.split], ...tip, title: (d) => `${d.name}, ${d.split}: ${d.n} (${percent(d.share)})` })],
    }), ["category", ...splits], () => found.classes.map((name, i) => [words(name), ...splits.map((s) => count(found.categories[s][i]))]))));
  }
  const points = found.points.valence.map((v, i) => ({ valence: v / 100, arousal: found.points.arousal[i] / 100, code: found.points.category[i] }));
  if (points.length) {
    const groups = found.classes.map((name, code) => ({ name, code, rows: points.filter((p) => p.code === code) })).filter((g) => g.rows.length);
    figures.push(h("div", {}, h("h3", {}, "Where the categories lie"), colorLegend(groups.map((g) => words(g.name)), (i) => classColor(groups[i].code), SYMBOLS), chart(`Density of valence and arousal by category, ${count(points.length)} of ${count(found.points.of)} utterances`, (width) => plot(Math.min(width, 520), {
      height: Math.min(width, 520), x: { domain: [-1.05, 1.05], label: "valence" }, y: { domain: [-1.05, 1.05], label: "arousal" }, symbol: { range: SYMBOLS },
      marks: [Plot.ruleX([0], { stroke: "var(--line)" }), Plot.ruleY([0], { stroke: "var(--line)" }),
        ...groups.filter((g) => g.rows.length > 4).map((g) => Plot.density(g.rows, { x: "valence", y: "arousal", stroke: classColor(g.code), bandwidth: 22, thresholds: 4, strokeOpacity: 0.8 })),
        ...groups.map((g) => Plot.dot(g.rows, { x: "valence", y: "arousal", fill: classColor(g.code), r: 2, symbol: SYMBOLS[g.code % 7], fillOpacity: 0.7, ...tip, title: (d) => `${words(g.name)}: ${d.valence.toFixed(2)}, ${d.arousal.toFixed(2)}` }))],
    }), ["category", "utterances", "mean valence", "mean arousal"], () => groups.map((g) => [words(g.name), count(g.rows.length), score(d3.mean(g.rows, (r) => r.valence), 2), score(d3.mean(g.rows, (r) => r.arousal), 2)]))));
  }
  for (const [name, counts] of Object.entries(found.histograms)) {
    const rows = splits.flatMap((split) => {
      const total = d3.sum(counts[split]) || 1;
      return counts[split].map((n, i) => ({ split, x: -1 + (2 * (i + 0.5)) / found.bins, share: n / total, n }));
    });
    figures.push(h("div", {}, h("h3", {}, `${words(name)} by split`), colorLegend(splits, (i) => SPLIT_COLOR[splits[i]]), chart(`Distribution of ${words(name)}, share within the split`, (width) => plot(width, {
      height: 190, x: { label: words(name), domain: [-1, 1] }, y: { label: "share", tickFormat: ".0%", grid: true },
      marks: splits.map((split, k) => Plot.line(rows.filter((r) => r.split === split), { x: "x", y: "share", stroke: SPLIT_COLOR[split], strokeWidth: 2, strokeDasharray: DASHES[k], curve: "monotone-x", ...tip, title: (d) => `${d.split}, around ${d.x.toFixed(2)}: ${d.n}` })),
    }), ["around", ...splits], () => d3.range(found.bins).map((i) => [(-1 + (2 * (i + 0.5)) / found.bins).toFixed(2), ...splits.map((s) => count(counts[s][i]))]))));
  }
  return [...parts, h("div", { class: "grid" }, figures)];
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
    return [s.stage, bar, ...kinds.map(([k]) => count(s[k] ?? 0)), Object.entries(s.reasons ?? {}).map(([reason, n]) => `${words(reason)} (${n})`).join(", ") || "none"];
  });
  return [colorLegend(kinds.map(([k]) => k), (i) => kinds[i][1]), table(["stage", "share", "ok", "degraded", "quarantined", "reasons"], rows, "Clips by stage and status"),
    found.set_aside ? h("details", {}, h("summary", {}, `Show ${found.examples.length} of ${count(found.set_aside)} rows that were set aside`), table(["clip", "stage", "reason", "detail"], found.examples.map((e) => [e.utterance_id, e.stage, words(e.reason), e.detail]), "Rows set aside")) : null];
});

section("leaks", "Leaks between the splits", null, () => {
  const found = corpus().leaks;
  const protocol = found.protocol ? `Splits by ${words(found.protocol)}. ` : "";
  if (!found.findings?.length) return h("p", {}, `${protocol}No leak was found between training, validation and test.`);
  return [h("p", { class: "note" }, protocol + "What training and test share although they should not, found before any training."),
    h("ul", { class: "plain" }, found.findings.map((f) => h("li", {}, h("span", { class: `badge ${f.severity === "warning" ? "warning-level" : f.severity}` }, f.severity), h("strong", {}, words(f.kind)), ": ", f.sentence, ".",
      f.examples?.length > 1 ? h("details", {}, h("summary", {}, "Examples"), h("ul", {}, f.examples.map((e) => h("li", {}, e)))) : null))),
    (found.notes ?? []).map((note) => h("p", { class: "note" }, note))];
});

const duration = (s) => (s >= 3600 ? `${(s / 3600).toFixed(1)} h` : s >= 90 ? `${(s / 60).toFixed(1)} min` : `${s.toFixed(1)} s`);
section("times", "Stage times on this machine", null, () => {
  if (!page.times.length) return null;
  const groups = d3.rollups(page.times, (rows) => ({ seconds: d3.sum(rows, (r) => r.seconds), n: rows.length }), (r) => r.stage.split("@")[0]).map(([stage, v]) => ({ stage, ...v })).sort((a, b) => b.seconds - a.seconds);
  return chart(`Last run of each stage, ${duration(d3.sum(groups, (g) => g.seconds))} of work in all`, (width) => plot(width, {
    height: 44 + 26 * groups.length, marginLeft: 90, marginRight: 70, x: { label: "seconds", grid: true }, y: { domain: groups.map((g) => g.stage), label: null },
    marks: [Plot.barX(groups, { x: "seconds", y: "stage", fill: "var(--c0)" }), Plot.text(groups, { x: "seconds", y: "stage", text: (d) => `${duration(d.seconds)}${d.n > 1 ? ` (${d.n})` : ""}`, textAnchor: "start", dx: 5, fill: "var(--ink)" })],
  }), ["instance", "seconds"], () => page.times.map((t) => [t.stage, t.seconds.toFixed(2)]));
});

section("provenance", "Where the numbers come from", null, () => {
  const found = page.provenance;
  const trained = (e) => (["yes", "true"].includes(e.trained) ? "trained" : h("strong", { style: "color: var(--warn)" }, "NOT trained"));
  const versions = Object.entries(found.versions);
  return [
    h("p", {}, `Seeds: ${found.seeds.join(", ") || "none"}.`),
    table(["encoder", "weights", "family", "checkpoint", "used for", "hash"], found.encoders.map((e) => [e.name, trained(e), e.family, e.checkpoint === "None" ? "none needed" : e.checkpoint, e.used_for.join(", ") || "not used by methods", String(e.weights_sha256 ?? "").slice(0, 10)]), "Encoders"),
    versions.length ? h("p", { class: "note" }, `Libraries: ${versions.map(([k, v]) => `${k} ${v}`).join(", ")}.`) : null,
    found.methods.length ? h("details", {}, h("summary", {}, "Hashes of code and data of each training"), table(["training", "code", "features", "split", "data"], found.methods.map((m) => [m.run, h("code", {}, m.code), h("code", {}, m.features), h("code", {}, m.split), h("code", {}, m.data)]), "First ten digits, from dvc.lock; equal hashes mean equal inputs")) : null,
    h("details", {}, h("summary", {}, `All ${found.parameters.length} parameters`), table(["parameter", "value"], found.parameters, "params.yaml")),
  ];
});
