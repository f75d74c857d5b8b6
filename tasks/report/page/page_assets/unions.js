// Corpora trained together: joint against alone, and how differently the parts were judged.
section("union", "Together or alone", "The chosen method trained on all parts of the union, against the same method trained on one part alone, both on that part's own test rows, and trained on another part. Intervals and the paired difference hold for fresh people, dialogues and training runs (Holm's correction over all comparisons of the union).", () => {
  const found = corpus().union;
  if (!found || !state.method) return null;
  const shown = (s) => (isNumber(s?.mean) ? `${score(s.mean)}${isNumber(s.ci_low) ? ` (${score(s.ci_low)} to ${score(s.ci_high)})` : ""}` : "–");
  const rows = found.rows.filter((r) => r.method === state.method && r.target === state.target);
  const lines = rows.map((r) => [r.part, shown(r.joint), shown(r.alone), shown({ mean: r.difference, ci_low: r.ci_low, ci_high: r.ci_high }), pValue(r.p_holm), r.transfer.map((t) => `${t.trained_on}: ${shown(t)}`).join("; ") || "–", count(r.n), r.columns.join(", ") || "–"]);
  const moments = (m) => (isNumber(m?.mean) ? `${score(m.mean)} ± ${score(m.sd)}` : "–");
  const dims = [...new Set(Object.values(corpus().agreement.parts ?? {}).flatMap((p) => Object.keys(p.values)))];
  const spreads = dims.flatMap((dim) => Object.entries(corpus().agreement.parts).filter(([, p]) => p.values[dim]).map(([name, p]) => [words(dim), name, moments(p.values[dim].raw), moments(p.values[dim].mapped), count(p.values[dim].mapped.n)]));
  return [
    lines.length ? table(["part", "joint", "alone", "joint − alone", "p", "trained on another part", "test rows", "columns"], lines, `${state.method}${rows[0].against === state.method ? "" : `, alone ${rows[0].against}`}: ${words(rows[0].metric)} of ${words(state.target)}, ${rows[0].higher_is_better ? "higher" : "lower"} is better`) : h("p", {}, "No part was evaluated alone on this target."),
    h("ul", { class: "plain" }, found.card.map((sentence) => h("li", {}, `${sentence}.`))),
    spreads.length ? h("div", {}, h("h3", {}, "Equal ranges are not equal distributions"), table(["column", "part", "judgements as given", "labels as mapped", "labels"], spreads, "Mean ± standard deviation by part, before and after mapping")) : null];
});
