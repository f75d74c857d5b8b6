"""A team's week in scratch repositories: two clones, a remote, branches, a merge, gc, a queue.

    python -m benchmarks.team FOLDER

Every command that somebody types is shown with the seconds it took, and after each step it is
checked that nothing was computed twice and nothing was lost.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks.versions import CORPUS, FEATURES, Versions
from tasks.store.segments import stats

_MEMBER = ("-c", "user.name=a", "-c", "user.email=a@example.org")
_PULLED = (f"data/raw/{CORPUS}.dvc", f"ingest@{CORPUS}", FEATURES)


class Clone:
    """A clone of the project, with DVC's cache of its own and a store that may be shared."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.store = root, store

    def git(self, *words: str, may_fail: bool = False) -> str:
        """Run git here."""
        return self._run("git", *_MEMBER, *words, may_fail=may_fail)

    def dvc(self, *words: str) -> str:
        """Run DVC here."""
        return self._run(sys.executable, "-m", "dvc", *words)

    def repro(self, computed: int) -> None:
        """Bring features up to date; so many clips must be computed for it."""
        before = self._entries()
        self.dvc("repro", FEATURES)
        found = self._entries() - before
        assert found == computed, f"{found} clips were computed, not {computed}"
        assert (self.root / f"data/features/{CORPUS}/prosody").is_dir()

    def keep_frames(self, is_kept: bool) -> None:
        """Another encoder key in params.yaml."""
        file = self.root / "params.yaml"
        found = yaml.safe_load(file.read_text())
        found["encoders"]["prosody"]["sequence"] = is_kept
        file.write_text(yaml.safe_dump(found, sort_keys=False))

    def commit(self, message: str) -> None:
        """Everything that git shall keep."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def _entries(self) -> int:
        return sum(usage.entries for usage in stats(self.store / "features"))

    def _run(self, *command: str, may_fail: bool = False) -> str:
        environment = os.environ | {
            "PYTHONPATH": str(self.root),
            "AFFECTLOOM_CACHE": str(self.store),
            "AFFECTLOOM_PREFECT": "off",
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.root, env=environment, text=True, check=False, capture_output=True
        )
        shown = " ".join(w for w in command if w not in (*_MEMBER, sys.executable, "-m"))
        print(f"{self.root.name:6} $ {shown:70} {time.perf_counter() - began:6.1f} s", flush=True)
        if done.returncode and not may_fail:
            raise RuntimeError(f"{shown}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr


def week(root: Path) -> None:
    """All of it, in order."""
    anna = found_project(root)
    ben = join(root, anna)
    merge_branches(anna, ben)
    collect_garbage(anna)
    use_worktree(root, anna)


def found_project(root: Path) -> Clone:
    """Anna begins: a corpus of twenty recordings, a remote for data, one for git."""
    project = Versions(root / "anna")
    project.record(0, 20, seed=0)
    project.dvc("add", f"data/raw/{CORPUS}")
    anna = Clone(root / "anna", root / "store of anna")
    (root / "remote").mkdir()
    anna.git("init", "-q", "--bare", str(root / "git"))
    anna.git("checkout", "-q", "-B", "main")
    anna.dvc("remote", "add", "-d", "team", str(root / "remote"))
    anna.repro(computed=20)
    anna.commit("Twenty recordings")
    anna.dvc("push", "--run-cache", *_PULLED)
    anna.git("remote", "add", "origin", str(root / "git"))
    anna.git("push", "-q", "-u", "origin", "main")
    return anna


def join(root: Path, anna: Clone) -> Clone:
    """Ben clones and pulls: nothing is computed, though his store is empty."""
    anna.git("clone", "-q", "-b", "main", str(root / "git"), str(root / "ben"))
    ben = Clone(root / "ben", root / "store of ben")
    ben.dvc("pull", "--run-cache", *_PULLED)
    ben.repro(computed=0)
    return ben


def merge_branches(anna: Clone, ben: Clone) -> None:
    """Anna changes the encoder, Ben adds a recording: dvc.lock is in conflict, and mended."""
    anna.git("checkout", "-q", "-b", "frames")
    anna.keep_frames(True)
    anna.repro(computed=20)
    anna.commit("Keep every frame")

    ben.git("checkout", "-q", "-b", "recording")
    project = Versions.__new__(Versions)
    project.root = ben.root
    project.record(20, 21, seed=0)
    ben.dvc("add", f"data/raw/{CORPUS}")
    ben.repro(computed=21)  # his own store is empty: he pulled tables, not clips
    ben.commit("One more recording")
    ben.dvc("push", "--run-cache", *_PULLED)
    ben.git("push", "-q", "-u", "origin", "recording")

    anna.git("fetch", "-q")
    said = anna.git("merge", "origin/recording", may_fail=True)
    assert "CONFLICT" in said, said
    assert "dvc.lock" in said, said
    anna.git("checkout", "--ours", "dvc.lock")  # either will do: repro writes what is right
    anna.git("add", "dvc.lock")
    anna.dvc("pull", f"data/raw/{CORPUS}.dvc")
    anna.repro(computed=1)
    anna.commit("Merge the recording")
    anna.git("checkout", "-q", "main")
    anna.git("merge", "-q", "frames")
    anna.dvc("push", "--run-cache", *_PULLED)


def collect_garbage(anna: Clone) -> None:
    """What any branch needs is still there after ``dvc gc --all-branches``."""
    anna.git("branch", "-f", "earlier", "main~1")  # before the recording
    anna.dvc("gc", "--all-branches", "-f")
    for branch in ("earlier", "main"):
        anna.git("checkout", "-q", branch)
        anna.dvc("checkout", "-q", *_PULLED)
        anna.repro(computed=0)


def use_worktree(root: Path, anna: Clone) -> None:
    """A worktree shares DVC's cache and the store: it computes nothing that is known."""
    anna.git("worktree", "add", "-q", "-b", "side", str(root / "side"), "main")
    side = Clone(root / "side", anna.store)
    side.dvc("cache", "dir", "--local", str(anna.root / ".dvc/cache"))
    side.dvc("checkout", "-q", *_PULLED)
    side.repro(computed=0)
    side.keep_frames(False)
    side.repro(computed=1)  # twenty of the store, and the recording that Ben added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder")
    week(parser.parse_args().folder.resolve())
    print("nothing was computed twice, and nothing was lost")


if __name__ == "__main__":
    main()
