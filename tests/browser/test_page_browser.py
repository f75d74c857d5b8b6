"""The report in a real browser: no complaint, no request, and everything a reader does works."""

import pytest

from tasks.report.stage import ForReport, ReportParams, run
from tests.browser.chromium import EXECUTABLE
from tests.places import here
from tests.tasks.report_factory import (
    NAMES,
    Scene,
    Silent,
    make_image_only,
    make_project,
    write_transfer,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is not installed"),
]

METHODS = ("constant", "linear", "early_fusion", "late_fusion", "corect")
TEXT = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("AFFECTLOOM_CACHE", raising=False)
        raw = make_project(folder, Scene(methods=METHODS, corpora=("toy", "more"), text=TEXT))
        raw["methods"]["broken"] = {}
        write_transfer(folder, "linear", "toy", "more")
        make_image_only(folder, "toy", "late_fusion")
        run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
        yield (folder / here().page()).resolve()


def methods(tab):
    return tab.run("[...document.querySelectorAll('.board tbody th')].map((e) => e.textContent)")


def pick(tab, control, value):
    tab.run(
        f"(() => {{ const e = document.getElementById('{control}'); e.value = '{value}';"
        "e.dispatchEvent(new Event('change')); })()"
    )


def visible(tab, section):
    return tab.run(f"!document.getElementById('{section}').hidden")


def test_every_section_is_drawn(tab):
    titles = tab.run("[...document.querySelectorAll('main h2')].map((e) => e.textContent)")
    assert len(titles) == 19
    assert "Can the confidence be believed?" in titles
    assert tab.run("document.querySelectorAll('#robustness svg path').length") > 4
    assert tab.run("document.querySelectorAll('#circumplex svg').length") > 0
    assert tab.run("document.querySelectorAll('#training svg circle').length") == 2


def test_text_from_data_is_never_run(tab):
    assert tab.run("document.title") == "affectloom report"
    assert TEXT in tab.run("document.querySelector('.turns').textContent")
    assert tab.run("document.querySelectorAll('main img[src=x]').length") == 0


def test_the_data_set_has_every_analysis(tab):
    titles = tab.run("[...document.querySelectorAll('#dataset h3')].map((e) => e.textContent)")
    assert {"valence by category", "How many labels an utterance has", "arousal by split"} <= set(
        titles
    )
    assert all(
        tab.run(
            "[...document.querySelectorAll('#dataset figure')].map((f) => !!f.querySelector('svg'))"
        )
    )


def test_columns_sort_both_ways_and_say_so(tab):
    tab.run("document.querySelector('[data-sort=method]').click()")
    assert methods(tab)[:-1] == sorted(METHODS)
    assert tab.run("document.querySelector('[aria-sort=ascending]').textContent") == "Method"
    tab.run("document.querySelector('[data-sort=method]').click()")
    assert methods(tab)[:-1] == sorted(METHODS, reverse=True)
    assert "Sorted by Method" in tab.run("document.getElementById('live').textContent")


def test_a_failed_method_stays_last_with_its_reason(tab):
    assert methods(tab)[-1] == "broken"
    assert "not finished" in tab.run("document.querySelector('tr.failed').textContent")


def test_the_filter_leaves_matching_methods(tab):
    tab.run(
        "(() => { const e = document.getElementById('filter'); e.value = 'FUSION';"
        "e.dispatchEvent(new Event('input')); })()"
    )
    assert sorted(methods(tab)) == ["early_fusion", "late_fusion"]


def test_choosing_target_and_corpus_changes_the_charts(tab):
    assert visible(tab, "confusion")
    assert not visible(tab, "coverage")
    pick(tab, "target", "vad")
    assert visible(tab, "coverage")
    assert not visible(tab, "confusion")
    before = tab.run("document.getElementById('summary').textContent")
    pick(tab, "corpus", "more")
    assert tab.run("document.getElementById('summary').textContent") != before


def test_choosing_method_and_seed_changes_the_confusion_matrix(tab):
    caption = "document.querySelector('#confusion caption').textContent"
    pick(tab, "method", "linear")
    assert tab.run(caption) == "linear, 2 seeds together"
    pick(tab, "seed", "1")
    assert tab.run(caption) == "linear, seed 1"


def test_a_cell_of_the_matrix_tells_the_verdict(tab):
    tab.run("document.querySelector('#significance td button').click()")
    text = tab.run("document.querySelector('#significance p[role=status]').textContent")
    assert "weighted_f1" in text
    assert "p = " in text


def test_corpora_tested_on_each_other_stand_in_a_matrix(tab):
    pick(tab, "method", "linear")
    rows = tab.run("[...document.querySelectorAll('#transfer tbody tr')].map((r) => r.textContent)")
    assert rows[0].startswith("toy")
    assert "0.4320.350 to 0.520" in rows[0].replace("0.4321", "0.432")
    assert "not finished: run stage transfer@more-linear-toy" in rows[1]
    text = tab.run("document.querySelector('#transfer').textContent")
    assert "classes angry, happy; 40 test rows, 8 left out" in text
    assert "only toy has neutral, sad; only more has fear" in text
    assert "3 of these clips are in toy too" in text
    assert tab.run("document.querySelectorAll('#transfer figure').length") == 0
    pick(tab, "target", "sentiment")
    assert (
        tab.run("document.querySelectorAll('#transfer figure [aria-label=line] path').length") == 1
    )
    tab.run("document.querySelector('#transfer details').open = true")
    tab.run("new Promise((done) => setTimeout(done, 100))")
    cells = "[...document.querySelectorAll('#transfer details td')].map((e) => e.textContent)"
    assert tab.run(cells) == ["10 %", "20 %", "30 %", "50 %"]
    pick(tab, "target", "vad")
    assert "more has no labels for it" in tab.run("document.querySelector('#transfer').textContent")


def test_a_method_that_sees_pictures_alone_has_every_other_chart(tab):
    pick(tab, "method", "late_fusion")
    assert visible(tab, "robustness")
    assert visible(tab, "confusion")
    shown = tab.run("[...document.querySelectorAll('#contribution svg')].length")
    assert shown > 0
    assert "late_fusion" not in tab.run("document.querySelector('#contribution svg').textContent")


def test_the_contents_name_only_what_is_shown(tab):
    links = "[...document.querySelectorAll('#contents a')].map((a) => a.hash.slice(1))"
    for target in ("category", "vad"):
        pick(tab, "target", target)
        assert all(visible(tab, name) for name in tab.run(links))
    assert "coverage" in tab.run(links)


def test_the_leaderboard_fits_a_desktop(tab):
    box = "document.querySelector('#leaderboard .scroll')"
    assert tab.run(f"{box}.scrollWidth - {box}.clientWidth") <= 1


def test_dialogues_step_through_turns_with_truth_and_prediction(tab):
    first = tab.run("document.getElementById('dialogue').value")
    assert tab.run("document.querySelectorAll('.turns li').length") == 6
    assert "predicted: " in tab.run("document.querySelector('.turns').textContent")
    assert tab.run("document.querySelectorAll('#dialogues figure svg').length") >= 3
    tab.run("[...document.querySelectorAll('#dialogues button')].at(-1).click()")
    assert tab.run("document.getElementById('dialogue').value") != first


def test_a_target_of_label_sets_shows_the_sets_of_each_turn(tab):
    pick(tab, "target", "categories")
    turns = tab.run("[...document.querySelectorAll('.turns .guess')].map((e) => e.textContent)")
    assert all(text.startswith("true: ") and "predicted: " in text for text in turns)
    known = {*NAMES["categories"], "none"}
    shown = {name for text in turns for name in text[6:].split("predicted: ")[0].split(", ")}
    assert shown <= known
    assert "right" not in tab.run("document.getElementById('dialogue').textContent")


def test_counts_are_whole_numbers(tab):
    rows = tab.run(
        "(() => { document.querySelector('#metrics details').open = true;"
        "return [...document.querySelectorAll('#metrics tbody tr')]"
        ".map((r) => [...r.children].map((c) => c.textContent)); })()"
    )
    cells = {row[0]: row[1] for row in rows}
    assert cells["n"].isdigit()
    assert "±" in cells["accuracy"]


def test_faces_of_the_synthetic_corpus_are_shown(tab):
    assert tab.run("document.querySelector('.turns img').naturalWidth") == 48


def test_every_chart_has_its_values_as_a_table(tab):
    missing = tab.run(
        "[...document.querySelectorAll('figure')].filter((f) => !f.querySelector('details')).length"
    )
    assert missing == 0
    tab.run("document.querySelector('#robustness details').open = true")
    tab.run("new Promise((done) => setTimeout(done, 100))")
    assert tab.run("document.querySelectorAll('#robustness details td').length") >= 5 * 4


def test_everything_can_be_reached_by_keyboard(tab):
    reached = []
    for _ in range(40):
        tab.key("Tab", 9)
        reached.append(
            tab.run("document.activeElement.id || document.activeElement.dataset.sort || ''")
        )
    for wanted in ("theme", "corpus", "target", "method", "seed", "filter", "rank", "mean"):
        assert wanted in reached
    tab.run("document.querySelector('[data-sort=mean]').focus()")
    tab.key("Enter", 13)
    assert tab.run("document.activeElement.dataset.sort") == "mean"
    assert tab.run("document.querySelector('[aria-sort=descending]') !== null")


def test_images_and_controls_have_names(tab):
    assert tab.run("[...document.querySelectorAll('select,input')].every((e) => e.labels.length)")
    assert tab.run(
        "[...document.querySelectorAll('figure svg')].every((e) => e.getAttribute('aria-label'))"
    )
    assert tab.run(
        "[...document.querySelectorAll('button')].every((e) => e.textContent.trim()"
        " || e.getAttribute('aria-label'))"
    )


def colors(tab):
    return tab.run(
        "(() => { const s = getComputedStyle(document.body);"
        "const parts = (c) => c.match(/\\d+/g).slice(0, 3).map(Number);"
        "return [parts(s.backgroundColor), parts(s.color)]; })()"
    )


def contrast(first, second):
    def luminance(rgb):
        parts = [c / 255 for c in rgb]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_dark_follows_the_system_and_the_button_overrides_it(tab):
    light = colors(tab)
    tab.scheme("dark")
    dark = colors(tab)
    assert sum(light[0]) > 600 > 200 > sum(dark[0])
    assert contrast(*light) > 7
    assert contrast(*dark) > 7
    tab.run("document.getElementById('theme').click()")
    assert colors(tab) == light


def test_scores_of_validation_are_marked_everywhere(tab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    scene = Scene(methods=METHODS[:3], targets=("emi", "sentiment"), hidden=("emi",))
    raw = make_project(tmp_path, scene)
    run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
    tab.open(here().page())
    pick(tab, "target", "emi")
    summary = "document.getElementById('summary').textContent"
    board = "document.getElementById('leaderboard').textContent"
    assert "on validation; selected on these rows, so not tested" in tab.run(summary)
    assert "48 validation utterances" in tab.run(board)
    assert "Selected on these rows" in tab.run(board)
    assert "on validation" in tab.run("document.getElementById('coverage').textContent")
    assert not visible(tab, "robustness")
    chosen = "[...document.querySelectorAll('#target option')].map((o) => o.textContent)"
    assert tab.run(chosen) == ["emi (validation)", "sentiment"]
    pick(tab, "target", "sentiment")
    assert "on validation" not in tab.run(summary)
    assert "Selected on these rows" not in tab.run(board)
    assert visible(tab, "robustness")


def test_a_project_whose_methods_all_failed_still_has_a_page(tab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, Scene(methods=("linear",)))
    raw["methods"] = {"broken": {}}
    run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
    tab.open(here().page())
    assert "No method has been judged" in tab.run("document.getElementById('summary').textContent")
    assert "broken: not finished" in tab.run("document.querySelector('main').textContent")
    assert visible(tab, "clips")


def test_every_column_of_the_leaderboard_is_explained_in_words(tab):
    named = tab.run("[...document.querySelectorAll('#leaderboard dt')].map((e) => e.textContent)")
    heads = tab.run("[...document.querySelectorAll('.board th.wide')].map((e) => e.textContent)")
    assert named == heads != []


def test_a_printed_leaderboard_fits_the_paper(tab):
    tab.width(718)  # A4 without the margins that browsers leave
    tab.call("Emulation.setEmulatedMedia", media="print")
    box = tab.run(
        "(() => { const t = document.querySelector('.board').getBoundingClientRect();"
        "const r = document.querySelector('.bar').getBoundingClientRect();"
        "return [t.right, r.height]; })()"
    )
    tab.call("Emulation.setEmulatedMedia", media="")
    assert box[0] <= 718
    assert box[1] == 0


def test_a_phone_shows_the_intervals_without_scrolling(tab, home):
    tab.width(360, 740)
    tab.open(home)
    box = "document.querySelector('#leaderboard .scroll')"
    assert tab.run(f"{box}.scrollWidth - {box}.clientWidth") <= 1
    assert tab.run("document.querySelector('.whisker').getBoundingClientRect().width") > 50


def test_a_phone_needs_no_sideways_scrolling(tab, home):
    tab.width(360, 740)
    tab.open(home)
    assert tab.run("document.documentElement.scrollWidth") == 360
    right = tab.run(
        "document.querySelector('.board td.num:nth-of-type(2)').getBoundingClientRect().right"
    )
    assert right <= 360
