import json

import pytest

from benchmarks import audit

GOOD = {"name": "numpy", "version": "2.0", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["3.2"], "aliases": [], "description": "..."}
BAD = {"name": "jinja2", "version": "2.4", "vulns": [HOLE, HOLE | {"fix_versions": []}]}
UNKNOWN = {"name": "own", "skip_reason": "Dependency not found"}


def test_holes_are_told_with_the_version_that_mends_them():
    holes, line = audit.verdict("x.lock", {"dependencies": [GOOD, BAD, UNKNOWN]})
    assert holes == [
        "jinja2 2.4: PYSEC-1, mended in 3.2",
        "jinja2 2.4: PYSEC-1, mended in no version yet",
    ]
    assert line == "x.lock: 2 packages looked up, 1 unknown, 2 holes"


def test_a_data_base_that_knows_nothing_is_no_pass():
    with pytest.raises(audit.NothingLearned, match="none of 2 packages"):
        audit.verdict("x.lock", {"dependencies": [UNKNOWN, UNKNOWN]})


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([GOOD], 0, "1 packages looked up"),
        ([GOOD, BAD], 1, "PYSEC-1"),
        ([UNKNOWN], 0, "pip-audit skipped: its data base knows none"),
        (None, 0, "pip-audit skipped: its data base gave no answer (no route to an address)"),
    ],
)
def test_only_a_hole_fails(monkeypatch, capsys, packages, code, said):
    def answer(*command):
        if packages is not None:
            file = command[command.index("--output") + 1]
            with open(file, "w", encoding="utf-8") as out:
                json.dump({"dependencies": packages}, out)
        words = "Traceback\nno route to https://ann:secret@packages.example/x\n"
        return audit.subprocess.CompletedProcess(command, 1, "", words)

    monkeypatch.setattr(audit, "run_tool", answer)
    monkeypatch.setattr(audit, "tool_in", lambda folder: "python")
    assert audit.main(["x.lock"]) == code
    told = capsys.readouterr().out
    assert said in told
    assert "secret" not in told
