// Controls, theme, and the first drawing.
const control = (id) => document.getElementById(id);

function options(id, values, chosen, label = words) {
  control(id).replaceChildren(...values.map((value) => h("option", { value, selected: value === chosen }, label(value))));
  control(id).disabled = values.length < 2;
}

function settle() {
  const targets = Object.keys(corpus().targets);
  if (!targets.includes(state.target)) state.target = targets.includes("category") ? "category" : targets[0] ?? null;
  const methods = target() ? ranked().map((e) => e.method) : everyMethod();
  if (!methods.includes(state.method)) state.method = methods[0] ?? null;
  const seeds = ["all", ...page.provenance.seeds.map(String)];
  if (!seeds.includes(state.seed)) state.seed = "all";
  options("corpus", Object.keys(page.corpora), state.corpus);
  options("target", targets, state.target, (t) => words(t) + (corpus().targets[t].split === "validation" ? " (validation)" : ""));
  options("method", methods, state.method, (m) => m);
  options("seed", seeds, state.seed, (s) => (s === "all" ? "all" : s));
  const failed = Object.keys(corpus().failed).length;
  const best = ranked()[0];
  const tied = best ? 1 + best.against.filter((o) => !o.significant).length : 0;
  control("summary").textContent = best
    ? `${words(state.corpus)}, ${words(state.target)}: ${best.method} ranks first with ${words(best.metric.name)} ${score(best.metric.mean)}${isHidden() ? " on validation; selected on these rows, so not tested" : ` (95 % interval ${score(best.metric.ci_low)} to ${score(best.metric.ci_high)})${tied > 1 ? `; ${tied - 1} of ${ranked().length - 1} other methods do not differ from it significantly` : ranked().length > 1 ? "; it is significantly better than every other method" : ""}`}.${failed ? ` ${failed} failed.` : ""}`
    : "No method has been judged yet.";
}

// Only sections that have something to show for the chosen target and method.
function listContents() {
  const shown = sections.filter((s) => !s.element.hidden);
  control("contents").replaceChildren(...shown.map((s) => h("li", {}, h("a", { href: `#${s.id}` }, s.title))));
}

function choose(change, only) {
  Object.assign(state, change);
  settle();
  draw(only);
  listContents();
  const spot = change.method && document.querySelector(`tr[data-method="${CSS.escape(change.method)}"] button`);
  if (spot && document.activeElement === document.body) spot.focus({ preventScroll: true });
  say(control("summary").textContent);
}

const THEMES = [["", "auto", "as the system has them"], ["light", "light", "light"], ["dark", "dark", "dark"]];
let theme = 0;
control("theme").addEventListener("click", () => {
  theme = (theme + 1) % THEMES.length;
  const [value, name, long] = THEMES[theme];
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
  control("theme").textContent = `Colours: ${name}`;
  control("theme").setAttribute("aria-label", `Colours: ${long}`);
});

for (const id of ["corpus", "target", "method"]) control(id).addEventListener("change", () => choose({ [id]: control(id).value }));
control("seed").addEventListener("change", () => choose({ seed: control("seed").value }, ["confusion", "circumplex", "dialogues"]));

const untrained = page.provenance.untrained_inputs;
if (untrained.length) {
  control("warnings").append(h("p", { class: "warning", role: "note" }, h("strong", {}, "Untrained encoders: "), `${untrained.join(", ")} ${untrained.length > 1 ? "have" : "has"} the real architecture but random weights. The scores show that the pipeline works, not how well these encoders do.`));
}
for (const [name, reason] of Object.entries(page.unready)) {
  control("warnings").append(h("p", { class: "warning", role: "note" }, h("strong", {}, `${name} is not shown: `), reason || "its tables are not finished", "."));
}
state.corpus = Object.keys(page.corpora)[0] ?? null;
if (state.corpus === null) {
  control("main").append(h("p", {}, "params.yaml names no corpus."));
} else {
  settle();
  control("main").append(...sections.map((s) => s.element));
  draw();
  listContents();
}

let width = document.documentElement.clientWidth;
let pending = 0;
const repaint = () => { for (const figure of document.querySelectorAll("figure")) if (figure.paint) figure.paint(); };
window.addEventListener("resize", () => {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  clearTimeout(pending);
  pending = setTimeout(repaint, 120);
});
window.addEventListener("beforeprint", repaint);
document.documentElement.dataset.ready = "yes";
