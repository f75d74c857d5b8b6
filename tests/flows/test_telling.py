"""What is told of a run at its end."""

import uuid
from types import SimpleNamespace

from flows.plan import Plan
from flows.telling import Teller, leaderboard, stage_variables
from flows.times import note_time, read_times
from flows.walk import Outcome
from tasks.layout import Layout

_CSV = """\
corpus,target,rank,method,metric,mean,ci_low,ci_high,significant_vs_next
sample,vad,1,linear,ccc,0.61,0.55,0.66,True
sample,vad,2,constant,ccc,0.0,0.0,0.0,False
sample,category,1,linear,weighted_f1,0.5,0.4,0.6,False
sample,category,2,corect,weighted_f1,0.49,0.4,0.6,False
other,category,1,linear,weighted_f1,0.5,0.4,0.6,False
"""


def test_the_leaderboard_says_who_leads_and_whether_clearly(tmp_path):
    (tmp_path / "leaderboard.csv").write_text(_CSV)
    text = leaderboard(tmp_path / "leaderboard.csv")
    assert "## sample, vad\n\nlinear is clearly ahead of constant.\n\n| rank | method | ccc" in text
    assert "linear is not clearly ahead of corect." in text
    assert "| 1 | linear | 0.61 | 0.55 to 0.66 |" in text
    assert text.count("ahead of") == 2  # a single method leads nobody


def test_stages_look_for_no_server_that_does_not_answer_the_pipeline():
    run = uuid.uuid4()
    report = SimpleNamespace(id=run, outbox=SimpleNamespace(is_lost=False))
    off = {"AFFECTLOOM_PREFECT": "off"}
    assert stage_variables(report) == {"AFFECTLOOM_PIPELINE_RUN": str(run)}
    report.outbox.is_lost = True
    assert stage_variables(report) == off
    assert stage_variables(None) == off
    unnamed = SimpleNamespace(id=None, outbox=SimpleNamespace(is_lost=False))
    assert stage_variables(unnamed) == {}  # asked for, and not yet answered


def test_what_a_stage_took_with_dvc_around_it_is_what_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    note_time(Layout(), "a", 1.0)  # by the stage itself
    teller = Teller(Plan(), None)
    teller.ended(Outcome("a", "reproduced", "", 4.0))
    teller.ended(Outcome("b", "restored", "", 2.0))  # nothing was computed
    assert read_times(Layout()) == {"a": 4.0}
