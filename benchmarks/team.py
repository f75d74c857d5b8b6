"""A team's week in scratch repositories: two clones, a remote, branches, a merge, gc, a queue.

    python -m benchmarks.team FOLDER [--s3]

The remote is a folder, or with `--s3` a bucket of a server that is started for it (needs the extra
`s3` and `moto[server]`). Every command that somebody types is shown with the seconds it took, and
after each step it is checked that nothing was computed twice and nothing was lost.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from benchmarks.versions import CORPUS, FEATURES, Versions
from tasks.store.segments import stats

_MEMBER = ("-c", "user.name=a", "-c", "user.email=a@example.org")
#: Seconds for the queue's two experiments; its workers take long to start.
_PATIENCE_S = 900.0
_PULLED = (f"data/raw/{CORPUS}.dvc", f"ingest@{CORPUS}", FEATURES)


class Clone:
    """A clone of the project, with DVC's cache of its own and a store that may be shared."""

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = store or root / ".cache/affectloom"
        self._named = {"AFFECTLOOM_CACHE": str(store)} if store else {}

    def git(self, *words: str, may_fail: bool = False) -> str:
        """Run git here."""
        return self._run("git", *_MEMBER, *words, may_fail=may_fail)

    def dvc(self, *words: str, may_fail: bool = False) -> str:
        """Run DVC here."""
        return self._run(sys.executable, "-m", "dvc", *words, may_fail=may_fail)

    def repro(self, computed: int) -> None:
        """Bring features up to date; so many clips must be computed for it."""
        before = self.entries()
        self.dvc("repro", FEATURES)
        found = self.entries() - before
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

    def entries(self) -> int:
        """Clips in the store."""
        return sum(usage.entries for usage in stats(self.store / "features"))

    def _run(self, *command: str, may_fail: bool = False) -> str:
        environment = os.environ | {
            **self._named,
            "PYTHONPATH": str(self.root),
            "AFFECTLOOM_PREFECT": "off",
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as said:  # a pipe would wait for the workers
            done = subprocess.run(
                command, cwd=self.root, env=environment, check=False, stdout=said, stderr=said
            )
            said.seek(0)
            text = said.read()
        shown = " ".join(w for w in command if w not in (*_MEMBER, sys.executable, "-m"))
        print(f"{self.root.name:6} $ {shown:70} {time.perf_counter() - began:6.1f} s", flush=True)
        if done.returncode and not may_fail:
            raise RuntimeError(f"{shown}: {text}")
        return text


def week(root: Path, remote: Sequence[str]) -> None:
    """All of it, in order."""
    anna = found_project(root, remote)
    ben = join(root, anna)
    merge_branches(anna, ben)
    collect_garbage(anna)
    use_worktree(root, anna)
    queue_experiments(ben)


def found_project(root: Path, remote: Sequence[str]) -> Clone:
    """Anna begins: a corpus of twenty recordings, a remote for data, one for git.

    Args:
        root: of all clones.
        remote: where the data go, and settings (name, value, ...) of that place.
    """
    project = Versions(root / "anna")
    project.record(0, 20, seed=0)
    project.dvc("add", f"data/raw/{CORPUS}")
    anna = Clone(root / "anna", root / "store of anna")
    anna.git("init", "-q", "--bare", str(root / "git"))
    anna.git("checkout", "-q", "-B", "main")
    address, *settings = remote
    anna.dvc("remote", "add", "-d", "team", address)
    for name, value in zip(settings[::2], settings[1::2], strict=True):
        anna.dvc("remote", "modify", "team", name, value)
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


def queue_experiments(ben: Clone) -> None:
    """Two experiments side by side in copies of the project: a later run computes nothing anew."""
    alone = Clone(ben.root)  # the copies have to find his store by themselves
    before = alone.entries()
    for change in ("++encoders.prosody.sequence=true", "++encoders.prosody.trim_db=30"):
        alone.dvc("exp", "run", "--queue", "-S", change, FEATURES)
    alone.dvc("queue", "start", "-j", "2")
    end = time.monotonic() + _PATIENCE_S
    while any(word in alone.dvc("queue", "status") for word in ("Queued", "Running")):
        if time.monotonic() > end:
            raise RuntimeError(f"experiments are not done after {_PATIENCE_S} s")
        time.sleep(5)
    said = alone.dvc("queue", "status")
    assert said.count("Success") == 2, said
    found = alone.entries() - before
    assert found == 2 * 21, f"the copies left {found} clips in the project's store, not 42"
    for name in alone.dvc("exp", "list", "--name-only").split():
        alone.dvc("exp", "apply", name, may_fail=True)  # stages that nobody ran have no outs
        alone.repro(computed=0)


@contextmanager
def bucket() -> Iterator[list[str]]:
    """A bucket of a stand-in for S3 on this machine, as `found_project` takes it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        request = urllib.request.Request(f"{url}/team", method="PUT")
        for attempt in range(100):
            try:
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                if attempt == 99 or server.poll() is not None:
                    raise
                time.sleep(0.3)
        yield ["s3://team/data", "endpointurl", url, "region", "us-east-1"]
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder")
    parser.add_argument("--s3", action="store_true", help="data go to a bucket")
    asked = parser.parse_args()
    root = asked.folder.resolve()
    if asked.s3:
        with bucket() as remote:
            week(root, remote)
    else:
        (root / "remote").mkdir(parents=True)
        week(root, [str(root / "remote")])
    print("nothing was computed twice, and nothing was lost")


if __name__ == "__main__":
    main()
