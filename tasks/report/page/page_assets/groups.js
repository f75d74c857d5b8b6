// Scores by group of people.
section("groups", "By group of people", "The score of the chosen method on the test rows of each group, with 95 % intervals over dialogues and people. A difference between groups says that the method serves them differently, or that their rows differ in difficulty or labels; few rows say neither, so small groups are named and not scored.", () => {
  const found = corpus().groups?.[state.target];
  if (!found?.length || !state.method) return null;
  return found.map((kind) => {
    const rows = kind.groups.map((g) => {
      const s = g.scores[state.method];
      const only = target().names && g.columns.length < target().names.length && target().kind === "values" ? ` (${g.columns.join(", ")} alone)` : "";
      return [`${g.name}${only}`, score(s?.mean), isNumber(s?.ci_low) ? `${score(s.ci_low)} to ${score(s.ci_high)}` : "–", count(g.n), count(g.n_dialogues)];
    });
    const gap = kind.gaps[state.method];
    const notes = [
      gap ? `Largest gap: ${score(gap.size)}, ${gap.best} over ${gap.worst}.` : "No two groups are large enough to compare.",
      kind.too_small.length ? `Too small to score: ${kind.too_small.length > 12 ? `${count(kind.too_small.length)} groups` : kind.too_small.join(", ")}.` : "",
      kind.unknown ? `${count(kind.unknown)} rows tell no ${kind.by}.` : "",
    ].filter(Boolean).join(" ");
    return h("div", {}, h("h3", {}, `By ${kind.by}`),
      rows.length ? table([kind.by, words(kind.metric), "95 % interval", "test rows", "dialogues"], rows, `${state.method}: ${words(kind.metric)} of ${words(state.target)} by ${kind.by}, ${kind.higher_is_better ? "higher" : "lower"} is better`) : null,
      h("p", { class: "note" }, notes));
  });
});
