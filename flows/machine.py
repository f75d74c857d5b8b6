"""What the machine has: codecs, threads, memory, disk, shared memory, GPU, DVC, model hub."""

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError
from tasks.layout import default_cache

#: What clips of corpora come in.
_CODECS = ("h264", "hevc", "mpeg4", "vp9", "aac", "mp3", "flac", "opus", "pcm_s16le")
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: was looked at.
        is_ok: nothing is to be mended.
        detail: what was found.
        remedy: what to do; empty where nothing is.
    """

    what: str
    is_ok: bool
    detail: str
    remedy: str = ""


def codecs() -> Finding:
    """Whether the common codecs can be decoded."""
    try:
        av = importlib.import_module("av")
        missing = [name for name in _CODECS if not _decodes(av, name)]
    except Exception as error:  # whatever a broken library raises is what we report
        return Finding("codecs", False, f"av does not import ({error})", "run `make setup`")
    if missing:
        return Finding(
            "codecs", False, f"no decoder for {', '.join(missing)}",
            "install av from its wheels (`pip install --only-binary av av`), which hold FFmpeg",
        )  # fmt: skip
    return Finding("codecs", True, f"{len(_CODECS)} common ones are decoded")


def _decodes(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except ValueError:  # what PyAV raises for an unknown codec is a subclass
        return False
    return True


def threads() -> Finding:
    """Whether each process would start more threads than there are cores."""
    cores, asked = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS", "")
    limit = cpu_quota()
    detail = f"{cores} cores" + (f", a limit of {limit:.1f}" if limit and limit < cores else "")
    detail += f", OMP_NUM_THREADS={asked}" if asked else ""
    if asked.isdigit() and int(asked) > cores:
        return Finding(
            "threads", False, detail,
            "unset OMP_NUM_THREADS: `run` gives every stage its share of the cores",
        )  # fmt: skip
    if limit and limit < cores - 0.5:
        return Finding(
            "threads", False, detail,
            f"set `execution: {{workers: {max(1, int(limit))}}}` in params.yaml: the container may "
            "use less than it sees",
        )  # fmt: skip
    return Finding("threads", True, detail)


def cpu_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Cores that the container may use; None without a limit."""
    if not file.exists():
        return None
    quota, period = file.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def memory(file: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is free, for a worker on each core."""
    if not file.exists():
        return Finding("memory", True, "not told by this system")
    found = dict(line.split(":") for line in file.read_text().splitlines() if ":" in line)
    free_gb = int(found["MemAvailable"].split()[0]) * 1024 / _GB
    cores = len(os.sched_getaffinity(0))
    detail = f"{free_gb:.1f} GB free for {cores} cores"
    if free_gb < 1 + cores:
        return Finding(
            "memory", False, detail,
            "a worker needs up to 1 GB: close other programs, or set `execution: {workers: 1}`",
        )  # fmt: skip
    return Finding("memory", True, detail)


def disk(root: Path) -> Finding:
    """Room where outs and where the store lie."""
    places = {"here": root, "in the cache": _existing(default_cache())}
    free = {name: shutil.disk_usage(place).free / _GB for name, place in places.items()}
    detail = ", ".join(f"{gb:.1f} GB free {name}" for name, gb in free.items())
    if min(free.values()) > 2:
        return Finding("disk", True, detail)
    return Finding(
        "disk", False, detail,
        "free some: `affectloom store prune`, `dvc gc -w` (keeps what is in the workspace), or let "
        "AFFECTLOOM_CACHE name a folder on another disk",
    )  # fmt: skip


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Room for what worker processes hand each other."""
    if not folder.exists():
        return Finding("/dev/shm", True, "this system has none")
    free_gb = shutil.disk_usage(folder).free / _GB
    if free_gb < 0.25:
        return Finding(
            "/dev/shm", False, f"{free_gb:.2f} GB free",
            "start the container with --shm-size=1g, or set `execution: {runner: threads}`",
        )  # fmt: skip
    return Finding("/dev/shm", True, f"{free_gb:.2f} GB free")


def device() -> Finding:
    """The GPU, if torch can use one."""
    try:
        import torch
    except Exception as error:  # whatever a broken library raises; "libraries" says it too
        return Finding("GPU", False, f"torch does not import ({error})", "run `make setup`")
    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name(0))
    if Path("/dev/nvidia0").exists():
        built = torch.version.cuda or "no CUDA"
        return Finding(
            "GPU", False, f"there is one, but torch (built for {built}) cannot use it",
            "install a driver for that CUDA, or the torch wheel that fits the driver; all runs on "
            "the processor meanwhile",
        )  # fmt: skip
    return Finding("GPU", True, "none; all runs on the processor")


def dvc(root: Path) -> Finding:
    """DVC's version, how it links outs, and where it pushes."""
    try:
        from dvc.config import Config

        config = Config(str(root / ".dvc"))
    except Exception as error:  # whatever a broken library or file raises is what we report
        return Finding(
            "DVC", False, f"cannot read .dvc/config ({error})", "mend it or `git checkout .dvc`"
        )
    if not os.access(root / ".dvc", os.W_OK):
        return Finding("DVC", False, ".dvc cannot be written", "allow this user to write there")
    links = config.get("cache", {}).get("type") or ["reflink", "copy"]
    remote = config.get("core", {}).get("remote")
    detail = f"outs are linked by {', '.join(links)}; "
    detail += f"pushes to {remote}" if remote else "no remote (`dvc remote add -d NAME PLACE`)"
    return Finding("DVC", True, detail)


def hub(root: Path) -> Finding:
    """Whether the checkpoints that are read are here, so that a run needs no model hub."""
    from flows.cli.data import is_local
    from flows.settings import read_params
    from models.encoders.records import fetched_path
    from models.encoders.wheels import is_wheel
    from tasks.selection import features_of

    try:
        params = read_params(root)
        read = dict.fromkeys(ids["encoder"] for ids in features_of(params.raw))
        entries = {name: params.encoder(name) for name in read}
    except UserError as error:  # "params.yaml" says it too
        return Finding("hub", True, f"not looked at: {error}")
    missing = [
        name
        for name, entry in entries.items()
        if entry.checkpoint
        and not is_local(entry.checkpoint)
        and not is_wheel(entry.checkpoint)  # the stage checkpoints takes these
        and not fetched_path(entry.checkpoint, entry.pin, default_cache()).exists()
    ]
    if missing:
        return Finding(
            "hub", False, f"not downloaded: {', '.join(missing)}",
            "run `affectloom fetch`, or `affectloom fetch --import BUNDLE` without a network",
        )  # fmt: skip
    return Finding("hub", True, "every checkpoint that is read is here, or made here")


def all_of(root: Path) -> list[Finding]:
    """Everything about the machine."""
    return [
        codecs(), threads(), memory(), disk(root), shared_memory(), device(), dvc(root), hub(root),
    ]  # fmt: skip
