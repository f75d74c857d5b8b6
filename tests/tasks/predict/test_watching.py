"""A watched folder: what is complete is answered once, whatever happens in between."""

import json
import shutil

import pytest

from models.errors import UserError
from tasks.predict.output.publishing import Wanted
from tasks.predict.session import Request
from tasks.predict.watching import DONE, Watch, watch
from tests.places import QUIET
from tests.tasks.predict.projects import NAME


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def seen(inbox, tmp_path, clock):
    (tmp_path / "out").mkdir()
    return Watch(inbox, tmp_path / "out", now=clock)


def names(seen):
    return [found.name for found in seen.ready()]


def test_a_file_is_taken_when_it_was_quiet(seen, project, inbox, clock):
    whole = project.medium(4).read_bytes()
    (inbox / "talk.mp4").write_bytes(whole[:1000])
    assert names(seen) == []
    clock.now = 5.0
    (inbox / "talk.mp4").write_bytes(whole)  # still being written
    assert names(seen) == []
    clock.now = 6.0
    assert names(seen) == []
    clock.now = 7.5
    assert names(seen) == ["talk.mp4"]


def test_a_file_that_cannot_be_read_is_given_longer(seen, project, inbox, clock):
    whole = project.medium(4).read_bytes()
    (inbox / "talk.mp4").write_bytes(whole[: len(whole) // 2])  # its writer pauses
    assert names(seen) == []
    clock.now = 30.0
    assert names(seen) == []
    (inbox / "talk.mp4").write_bytes(whole)
    assert names(seen) == []
    clock.now = 33.0
    assert names(seen) == ["talk.mp4"]
    (inbox / "torn.mp4").write_bytes(b"never a medium")
    names(seen)
    clock.now = 100.0
    assert [bool(one.fault) for one in seen.ready()] == [False, True]


def test_what_is_hidden_unfinished_empty_or_ours_is_left_alone(project, inbox, clock):
    out = inbox / "answers"
    seen = Watch(inbox, out, now=clock)
    for name in (".hidden.mp4", "a.mp4.part", "b.crdownload", "answers/overlay.mp4", "deep/c.mp4"):
        (inbox / name).parent.mkdir(exist_ok=True)
        shutil.copy(project.medium(4), inbox / name)
    (inbox / "empty.mp4").touch()
    names(seen)
    clock.now = 99.0
    assert names(seen) == ["deep/c.mp4"]


@pytest.fixture
def ask(project, inbox, tmp_path, monkeypatch):
    """Watches for some looks and is then interrupted; returns lines that were said."""

    def run(looks=4, **options):
        left = iter(range(looks))

        def rest(_):
            if next(left, None) is None:
                raise KeyboardInterrupt

        lines = []
        wanted = Wanted(overlay=False)
        request = Request((), tmp_path, tmp_path / "out", NAME, wanted=wanted, **options)
        watch(request, inbox, project.layout, project.params, lambda *_: QUIET, lines.append, rest)
        return lines

    monkeypatch.setattr(Watch, "__init__", _eager(Watch.__init__))
    return run


def _eager(init):
    def eager(self, *arguments, **options):
        init(self, *arguments, **{"quiet_s": 0.0, "broken_s": 0.0, **options})

    return eager


def test_what_arrived_is_answered_once_and_a_broken_file_costs_only_itself(
    ask, project, inbox, tmp_path
):
    shutil.copy(project.medium(4), inbox / "a.mp4")
    (inbox / "b.mp4").write_bytes(b"never a medium")
    lines = ask()
    assert lines[-1] == "stopped; 1 answered, the same command goes on from here"
    assert any(line.startswith("b.mp4: nothing predicted: the bytes") for line in lines)
    file = tmp_path / "out" / "a.mp4" / "predictions.json"
    before = file.stat().st_mtime_ns
    again = ask()
    assert again[-1].startswith("stopped; 0 answered")
    assert file.stat().st_mtime_ns == before

    shutil.copy(project.medium(5), inbox / "c.mp4")  # the rest stays in the overview
    assert ask()[-1].startswith("stopped; 1 answered")
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(name in page for name in ("a.mp4/timeline.html", "b.mp4", "c.mp4/timeline.html"))


def test_a_file_that_changed_is_answered_again(ask, project, inbox, tmp_path):
    shutil.copyfile(project.medium(4), inbox / "a.mp4")
    ask()
    shutil.copyfile(project.medium(5), inbox / "a.mp4")
    assert ask()[-1].startswith("stopped; 1 answered")


def test_an_interrupt_in_the_middle_keeps_what_is_written(
    ask, project, inbox, tmp_path, monkeypatch
):
    from tasks.predict import watching

    whole = watching.predict

    def interrupted(*arguments):
        yield from list(whole(*arguments))[:1]
        if arguments[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "predict", interrupted)
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(project.medium(4), inbox / name)
    assert ask()[-1].startswith("stopped; 1 answered")
    assert list(json.loads((tmp_path / "out" / DONE).read_text())) == ["a.mp4"]
    monkeypatch.setattr(watching, "predict", whole)
    assert ask()[-1].startswith("stopped; 1 answered")
    assert (tmp_path / "out" / "b.mp4" / "predictions.json").exists()


def test_mistakes_are_one_sentence(ask, inbox, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / DONE).write_text("{")
    (tmp_path / "out" / "index.html").write_text("")
    with pytest.raises(UserError, match=r"watched\.json is not readable"):
        ask()
    with pytest.raises(UserError, match="give neither media nor a transcript"):
        ask(transcript=tmp_path / "a.srt")
    inbox.rmdir()
    with pytest.raises(UserError, match="there is no such folder"):
        ask()
