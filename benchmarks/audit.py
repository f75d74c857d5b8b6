"""Known holes in the locked packages, as pip-audit's data base tells them.

    python -m benchmarks.audit

Ends with 1 where a locked package has a hole that is known. Where pip-audit cannot be installed, or
its data base cannot be reached, says so and ends with 0: nothing was found out, which is no pass.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOCKS = ("requirements.lock", "requirements-cluster.lock")
#: It comes into an environment of its own: what it needs shall not be pinned with the project.
_TOOL, _LIMIT_S = "pip-audit==2.10.1", 600


class NothingLearned(Exception):
    """The data base said nothing; the message says why."""


def verdict(lock: str, answer: Mapping[str, Any]) -> tuple[list[str], str]:
    """Holes of one lock, a sentence each, and a line of what was asked.

    Raises:
        NothingLearned: the data base knows none of the packages, as a mirror without one answers.
    """
    packages = answer["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        raise NothingLearned(f"its data base knows none of {len(packages)} packages")
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole.get('fix_versions') or ()) or 'no version yet'}"
        for package in known
        for hole in package.get("vulns") or ()
    ]
    unknown = len(packages) - len(known)
    return holes, f"{lock}: {len(known)} packages looked up, {unknown} unknown, {len(holes)} holes"


def run_tool(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NothingLearned(f"no answer within {_LIMIT_S} s") from None


def _last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return re.sub(r"\S+://\S+", "an address", lines[-1].strip())[:300]


def tool_in(folder: Path) -> str:
    """pip-audit in an environment of its own."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    done = run_tool(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _TOOL)
    if done.returncode:
        raise NothingLearned(f"{_TOOL} could not be installed ({_last_words(done.stderr)})")
    return python


def _ask(python: str, lock: str, out: Path) -> Mapping[str, Any]:
    options = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
    done = run_tool(
        python, "-m", "pip_audit", *options, "--output", str(out), "--requirement", lock
    )
    if not out.exists() or not out.stat().st_size:
        raise NothingLearned(f"its data base gave no answer ({_last_words(done.stderr)})")
    return json.loads(out.read_text(encoding="utf-8"))


def main(locks: Sequence[str] = LOCKS) -> int:
    holes: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            python = tool_in(Path(folder) / "venv")
            for number, lock in enumerate(locks):
                found, line = verdict(lock, _ask(python, lock, Path(folder) / f"{number}.json"))
                print(line)
                holes.extend(found)
    except NothingLearned as why:
        print(f"pip-audit skipped: {why}")
    for hole in holes:
        print(hole)
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
