"""How long the report takes for 20 methods x 5 seeds x 2,000 test utterances, and how big it is.

    python -m benchmarks.report [--targets category vad] [--methods 20] [--resamples 10000]

With Chromium installed it also measures when the page is ready for the reader.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from tasks.layout import Layout
from tasks.report.leaderboard import judge
from tasks.report.stage import ForReport, ReportParams, draw_page, run
from tests.browser.chromium import EXECUTABLE, browser
from tests.tasks.report_factory import Scene, make_project


class _Silent:
    def progress(self, *_: object) -> None:
        """Tell nobody."""


def main() -> None:
    """Make a project in a temporary folder, report on it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--targets", nargs="+", default=["category", "vad"])
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dialogues", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=10_000)
    given = parser.parse_args()
    scene = Scene(
        methods=tuple(f"method_{i:02d}" for i in range(given.methods)),
        seeds=tuple(range(given.seeds)),
        dialogues=given.dialogues,
        turns=10,
        targets=tuple(given.targets),
    )
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        raw = make_project(Path(name), scene)
        size = f"{given.methods} methods x {given.seeds} seeds x {10 * given.dialogues} utterances"
        print(f"{size}, targets {', '.join(given.targets)}, {given.resamples} resamples")
        params = ReportParams(resamples=given.resamples)
        begin, cpu = time.perf_counter(), time.process_time()
        judge(Layout(), "toy", list(scene.methods), resamples=given.resamples, seed=0)
        print(f"judge alone      {time.perf_counter() - begin:7.1f} s wall "
              f"{time.process_time() - cpu:7.1f} s CPU")  # fmt: skip
        begin, cpu = time.perf_counter(), time.process_time()
        run(ForReport(params, raw), Layout(), _Silent())  # type: ignore[arg-type]
        print(f"stage report     {time.perf_counter() - begin:7.1f} s wall "
              f"{time.process_time() - cpu:7.1f} s CPU")  # fmt: skip
        begin, cpu = time.perf_counter(), time.process_time()
        draw_page(Layout(), params, raw)
        print(f"affectloom report{time.perf_counter() - begin:7.1f} s wall "
              f"{time.process_time() - cpu:7.1f} s CPU")  # fmt: skip
        print(f"index.html       {Layout().page().stat().st_size / 1e6:7.2f} MB")
        if EXECUTABLE.exists():
            with browser() as tab:
                tab.width(1180)
                ready_ms = [tab.open(Layout().page()) for _ in range(3)]
            print(f"page ready after {min(ready_ms) / 1000:7.2f} s (best of 3)")


if __name__ == "__main__":
    main()
