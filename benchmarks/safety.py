"""How many hostile files and disturbed runs were tried, and what became of them.

    python -m benchmarks.safety [hostile] [faults] [-k WORDS] [--write]

Runs the suites, with as many kills as `tests/faults/works.py` says of each kind, and prints a row
for each kind of trial.
``--write`` puts the rows into the table of docs/safety.md; rows of kinds that were not tried stay.
Ends with 1 where something was lost or went wrong.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.places import ROOT
from tests.tally import VARIABLE

PAGE = ROOT / "docs" / "safety.md"
HEAD = "| Tried | times | refused | survived | lost | wrong |"
KILLS, _ALL = "AFFECTLOOM_FAULTS_KILLS", "1000"
_WORDS = ("refused", "survived", "lost", "wrong")

Counts = Mapping[str, Mapping[str, int]]


def run_suite(suite: str, words: str | None) -> tuple[Counts, int]:
    """Counts of one suite by kind, and pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tally.json"
        command = [sys.executable, "-m", "pytest", "-m", suite, f"tests/{suite}"]
        command += ["-k", words] if words else []
        asked = {KILLS: _ALL} | os.environ | {VARIABLE: str(file)}
        done = subprocess.run(command, cwd=ROOT, env=asked, check=False)
        counts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return counts, done.returncode


def rows(counts: Counts) -> dict[str, str]:
    """A line of the table for each kind."""
    made = {}
    for kind, found in sorted(counts.items()):
        numbers = [found.get(word, 0) for word in _WORDS]
        cells = " | ".join(f"{number:,}" for number in (sum(numbers), *numbers))
        made[kind] = f"| {kind} | {cells} |"
    return made


def with_rows(page: str, new: Mapping[str, str]) -> str:
    """The page with the rows of its table replaced or added, in the order of their kinds."""
    before, head, after = page.partition(HEAD + "\n")
    if not head:
        raise ValueError(f"the page has no table that begins with {HEAD}")
    rule, *lines = after.split("\n")
    end = next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))
    old = {line.split("|")[1].strip(): line for line in lines[:end]}
    table = [line for _, line in sorted((old | dict(new)).items())]
    return before + head + "\n".join([rule, *table, *lines[end:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=["hostile", "faults"])
    parser.add_argument("-k", dest="words", help="only tests of these words, as pytest reads them")
    parser.add_argument("--write", action="store_true", help="into docs/safety.md")
    options = parser.parse_args()
    code, made = 0, {}
    for suite in options.suites:
        counts, failed = run_suite(suite, options.words)
        made |= rows(counts)
        code = code or failed
    print("\n".join([HEAD, *made.values()]))
    if options.write and made:
        PAGE.write_text(with_rows(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
