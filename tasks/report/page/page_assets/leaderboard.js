// The leaderboard, the verdicts in words, and who beats whom.
const board = { sort: "rank", descending: false, filter: "" };

const COLUMNS = [
  { key: "rank", name: "Rank", value: (e) => e.rank },
  { key: "method", name: "Method", value: (e) => e.method },
  { key: "mean", name: "Score", value: (e) => e.metric.mean },
  { key: "bar", name: "95 % interval", value: null },
  { key: "std", name: "SD", value: (e) => e.metric.std, wide: true, help: "standard deviation over seeds" },
  { key: "validation", name: "Validation", value: (e) => e.validation?.mean, wide: true, help: "the same metric on the validation split" },
  { key: "oracle", name: "Test‑oracle gap", value: (e) => gap(e), wide: true, help: "what choosing the epoch on the test split would have added; for information, it ranks nothing; empty where the epochs were too large to keep (train.snapshot_mb)" },
  { key: "all_rows", name: "All folds as one", value: (e) => e.all_rows, wide: true, has: () => ranked().some((e) => isNumber(e.all_rows)), help: "the score over the rows of all folds together, as some papers print it; biased, because each fold's training mean lies on the other side of its test mean; ranks nothing" },
  { key: "ensemble", name: "Ensemble", value: (e) => e.ensemble, wide: true, help: "the score of the mean prediction over all seeds; for information, it ranks nothing" },
  { key: "seeds", name: "Seeds", value: (e) => e.seeds, wide: true, help: "trainings that the score is the mean of" },
  { key: "parameters", name: "Parameters", value: (e) => e.parameters, wide: true, help: "trained numbers of one network" },
];
const columns = () => COLUMNS.filter((column) => !column.has || column.has());

function shared() {
  const first = ranked()[0];
  return first?.clustered_by === "speakers and dialogues" ? ` in ${count(first.n_clusters)} groups that share no speaker` : "";
}

function gap(entry) {
  if (!isNumber(entry.test_oracle?.mean) || !isNumber(entry.metric.mean)) return null;
  return (target().higher ? 1 : -1) * (entry.test_oracle.mean - entry.metric.mean);
}

function shownEntries() {
  const wanted = board.filter.trim().toLowerCase();
  const entries = target().entries.filter((e) => e.method.toLowerCase().includes(wanted));
  const value = COLUMNS.find((c) => c.key === board.sort).value;
  const sign = board.descending ? -1 : 1;
  const last = (v) => v === null || v === undefined || Number.isNaN(v);
  return entries.sort((a, b) => {
    if (Boolean(a.failed) !== Boolean(b.failed)) return a.failed ? 1 : -1;
    if (a.failed) return a.method < b.method ? -1 : 1;
    const [x, y] = [value(a), value(b)];
    if (last(x) || last(y)) return last(x) - last(y);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.rank - b.rank;
  });
}

function whisker(entry, scale, best) {
  const svg = d3.create("svg").attr("class", "whisker").attr("viewBox", "0 0 200 22").attr("preserveAspectRatio", "none").attr("role", "img")
    .attr("aria-label", `${score(entry.metric.mean)}, interval ${score(entry.metric.ci_low)} to ${score(entry.metric.ci_high)}`);
  const { mean, ci_low: low, ci_high: high } = entry.metric;
  if (!isNumber(mean)) return svg.node();
  const keep = (line) => line.attr("vector-effect", "non-scaling-stroke");
  if (best && isNumber(best.ci_low)) {
    svg.append("rect").attr("x", scale(best.ci_low)).attr("width", Math.max(1, scale(best.ci_high) - scale(best.ci_low))).attr("height", 22).style("fill", "var(--fill)");
  }
  if (isNumber(low)) {
    keep(svg.append("line")).attr("x1", scale(low)).attr("x2", scale(high)).attr("y1", 11).attr("y2", 11).style("stroke", "var(--c0)").attr("stroke-width", 3);
    for (const end of [low, high]) keep(svg.append("line")).attr("x1", scale(end)).attr("x2", scale(end)).attr("y1", 6).attr("y2", 16).style("stroke", "var(--c0)").attr("stroke-width", 2);
  }
  keep(svg.append("line")).attr("x1", scale(mean)).attr("x2", scale(mean)).attr("y1", 3).attr("y2", 19).style("stroke", "var(--c1)").attr("stroke-width", 4);
  return svg.node();
}

function boardRow(entry, scale, best) {
  const chosen = entry.method === state.method;
  if (entry.failed) {
    return h("tr", { class: "failed" }, h("td", {}, "–"), h("th", { scope: "row" }, entry.method), h("td", { colspan: columns().length - 2 }, entry.failed));
  }
  const cells = columns().slice(2).map((column) => {
    if (!column.value) return h("td", {}, whisker(entry, scale, best));
    const value = column.value(entry);
    const text = ["seeds", "parameters"].includes(column.key) ? count(value) : column.key === "oracle" ? signed(value) : score(value);
    return h("td", { class: column.wide ? "num wide" : "num" }, text);
  });
  return h("tr", { class: chosen ? "selected" : null, "data-method": entry.method },
    h("td", { class: "num" }, entry.rank),
    h("th", { scope: "row" }, h("button", { type: "button", class: "link", "aria-pressed": String(chosen), onclick: () => choose({ method: entry.method }) }, breakable(entry.method))),
    cells);
}

function drawBoard(holder) {
  const t = target();
  const ends = ranked().flatMap((e) => [e.metric.ci_low, e.metric.ci_high, e.metric.mean]).filter(isNumber);
  const scale = d3.scaleLinear(d3.extent(ends.length ? ends : [0, 1]), [4, 196]);
  const head = columns().map((column) => {
    const numeric = !["method", "bar"].includes(column.key);
    const kind = [column.wide ? "wide" : "", numeric ? "num" : ""].join(" ").trim() || null;
    if (!column.value) return h("th", { scope: "col" }, column.name);
    const name = column.key === "mean" ? words(t.metric) : column.name;
    const order = board.sort === column.key ? (board.descending ? "descending" : "ascending") : "none";
    return h("th", { scope: "col", "aria-sort": order, class: kind, title: column.help }, h("button", { type: "button", "data-sort": column.key, onclick: () => {
      board.descending = board.sort === column.key ? !board.descending : !["rank", "method", "parameters"].includes(column.key) && t.higher;
      board.sort = column.key;
      drawBoard(holder);
      holder.querySelector(`[data-sort="${column.key}"]`).focus();
      say(`Sorted by ${name}, ${board.descending ? "largest" : "smallest"} first`);
    } }, name));
  });
  const rows = shownEntries();
  holder.replaceChildren(h("p", { class: "caption", id: "board-caption" }, `${words(t.metric)}, ${t.higher ? "higher" : "lower"} is better; mean over seeds on ${count(ranked()[0]?.n)} ${part()} utterances of ${count(ranked()[0]?.n_dialogues)} dialogues${shared()}. ${isHidden() ? "Selected on these rows: without interval." : `Intervals are drawn from ${scale.domain().map((v) => v.toFixed(2)).join(" to ")}; grey is the interval of the best.`}`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Leaderboard" },
    h("table", { class: "board", "aria-describedby": "board-caption" },
      h("caption", { class: "hidden" }, "Leaderboard"),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rows.length ? rows.map((e) => boardRow(e, scale, ranked()[0]?.metric)) : h("tr", {}, h("td", { colspan: columns().length }, "No method matches."))))));
}

section("leaderboard", "Leaderboard", "Ranks follow the score of the epoch chosen on validation. Intervals hold for fresh people, fresh dialogues and fresh training runs (bootstrap of groups that share speakers or dialogues, seeds counted). Choose a method to see it in the charts below.", () => {
  if (!target()) {
    return [h("p", {}, "Nothing has been judged on this corpus: no method is evaluated yet, or no validation or test row has a label."), h("ul", {}, Object.entries(corpus().failed).map(([method, reason]) => h("li", {}, `${method}: ${reason}`)))];
  }
  const holder = h("div");
  const input = h("input", { type: "search", id: "filter", value: board.filter, placeholder: "part of a name", oninput: () => {
    board.filter = input.value;
    drawBoard(holder);
    say(`${shownEntries().length} methods shown`);
  } });
  drawBoard(holder);
  const sentences = ranked().filter((e) => e.verdict).map((e) => h("li", {}, e.verdict));
  const remarks = [...new Set(ranked().map((e) => e.remark).filter(Boolean))];
  return [isHidden() ? h("p", { class: "warning", role: "note" }, h("strong", {}, "Selected on these rows: "), `the corpus keeps the labels of its test part to itself, so every score of ${words(state.target)} here is of validation, which also chose the epochs. It is no test score, so it has neither interval nor test. Mean predictions for the test part are in data/reports/ensembles.`) : null,
    target().story.length ? h("ul", { class: "story" }, target().story.map((sentence) => h("li", {}, sentence))) : null,
    h("div", { class: "tools" }, h("label", {}, "Filter methods ", input)), holder,
    remarks.length ? h("p", { class: "note" }, `Mind: ${remarks.join("; ")}.`) : null,
    h("details", {}, h("summary", {}, "What the columns mean"), h("dl", {}, columns().filter((c) => c.help).map((c) => [h("dt", {}, c.name), h("dd", {}, `${c.help}.`)]))),
    sentences.length ? h("details", { open: sentences.length <= 8 && window.innerWidth > 640 }, h("summary", {}, "The verdict in words: each method against the next"), h("ol", { class: "verdicts" }, sentences)) : null];
});

section("significance", "Who beats whom", "▲ the row's method is significantly better than the column's, ▽ significantly worse, · no significant difference (paired test over groups that share speakers or dialogues, and over seeds; Holm's correction over all pairs). Choose a cell for the sentence.", () => {
  const entries = ranked();
  if (!target() || entries.length < 2 || isHidden()) return null;
  const pairs = new Map();
  for (const e of entries) for (const other of e.against) pairs.set(`${e.method}\n${other.method}`, other);
  const sentence = h("p", { class: "note", role: "status" }, " ");
  const place = new Map(entries.map((e, i) => [e.method, i]));
  const cell = (row, column) => {
    if (row === column) return h("td", { class: "self" });
    const isAbove = place.get(row.method) < place.get(column.method);
    const pair = pairs.get(isAbove ? `${row.method}\n${column.method}` : `${column.method}\n${row.method}`);
    if (!pair) return h("td", { title: "not compared" }, "");
    const kind = !pair.significant ? "" : (pair.difference > 0) === (isAbove === target().higher) ? "better" : "worse";
    const label = `${row.method} against ${column.method}: ${kind ? `significantly ${kind}` : "no significant difference"}, ${pValue(pair.p_holm)}`;
    return h("td", { class: kind || null }, h("button", { type: "button", title: label, "aria-label": label, onclick: () => { sentence.textContent = pair.verdict; } },
      kind === "better" ? "▲" : kind === "worse" ? "▽" : "·"));
  };
  return [h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Who beats whom" },
    h("table", { class: "matrix" }, h("caption", { class: "hidden" }, "Paired tests of all methods"),
      h("thead", {}, h("tr", {}, h("td", {}), entries.map((e) => h("th", { scope: "col" }, h("span", { class: "turned" }, e.method))))),
      h("tbody", {}, entries.map((row) => h("tr", {}, h("th", { scope: "row" }, row.method), entries.map((column) => cell(row, column))))))), sentence];
});

const COUNTED = /^(n|n\/.*|support\/.*|predicted_classes|labels_without_positive|rows_without_label|pearson_undefined)$/;

section("metrics", "All metrics", "Mean over seeds, then standard deviation. One row for each metric of this target.", () => {
  const found = target()?.metrics;
  if (!found || !found.names.length) return null;
  const methods = ranked().map((e) => e.method).filter((m) => found.values[m]);
  const rows = found.names.map((name, i) => [words(name), ...methods.map((m) => {
    const [mean, std] = [found.values[m][0][i], found.values[m][1][i]];
    if (isNumber(mean) && COUNTED.test(name)) return Number.isInteger(mean) ? count(mean) : mean.toFixed(1);
    return isNumber(mean) ? `${score(mean)}${isNumber(std) ? ` ± ${score(std)}` : ""}` : "undefined";
  })]);
  return h("details", {}, h("summary", {}, `Show ${rows.length} metrics of ${methods.length} methods`), table(["metric", ...methods], rows, `All metrics on ${part()}, mean ± standard deviation over seeds`));
});
