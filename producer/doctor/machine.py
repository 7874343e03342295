"""The machine: cores, memory, open files and disks against what a worker with these settings
takes.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from db import machine
from producer.doctor import packages
from producer.doctor.check import Check, Finding, ok, skipped, warn
from producer.wording import plural
from workers.node.shape import BASE_BYTES, SAMPLER_BYTES, VIDEO_BYTES

GROUP = "Machine"
GIB = 1 << 30
#: Descriptors of a video in flight (source, database), of a sampler, and of everything else.
VIDEO_FILES, SAMPLER_FILES, OTHER_FILES = 3, 4, 150
LEAST_FREE_BYTES = 5 * GIB
CGROUP = Path("/sys/fs/cgroup")


def checks() -> list[Check]:
    return [Check(GROUP, "machine", findings), Check(GROUP, "disk", disks)]


def findings() -> Iterator[Finding]:
    from db import settings
    from workers.settings import WorkerSettings

    chosen = settings.load(WorkerSettings)
    if packages.missing():
        yield skipped("machine", f"{_cores(machine.cores())}; limits matter where a worker runs")
        return
    samplers = chosen.shape.samplers
    yield judge_cores(samplers, machine.cores())
    yield judge_memory(samplers, chosen.in_flight, free_memory_bytes())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_files(samplers, chosen.in_flight, soft, hard)


def free_memory_bytes() -> int | None:
    """What is left of the machine's memory or of its container's limit; None where nobody says."""
    free = parse_available(_read(Path("/proc/meminfo")))
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit.isdecimal() and used.isdecimal():
        left = max(0, int(limit) - int(used))
        return left if free is None else min(free, left)
    return free


def parse_available(text: str) -> int | None:
    """MemAvailable of /proc/meminfo, in bytes."""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cores(cores: float) -> str:
    """A container may have a part of one."""
    return f"{cores:g} {'core' if cores == 1 else 'cores'}"


def judge_cores(samplers: int, cores: float) -> Finding:
    fact = f"{_cores(cores)}, {plural(samplers, 'sampler')}"
    if samplers > max(1, cores):
        best = max(1, int(cores) - 1)
        return warn(
            "cores", f"{fact}: more than can run", f"set REELVEC_SAMPLERS={best}, or leave it out"
        )
    return ok("cores", fact)


def judge_memory(samplers: int, in_flight: int, free_bytes: int | None) -> Finding:
    need = samplers * SAMPLER_BYTES + in_flight * VIDEO_BYTES + BASE_BYTES
    if free_bytes is None:
        return skipped("memory", "this system does not say how much is free")
    fact = f"{free_bytes / GIB:.1f} GiB free, a worker takes about {need / GIB:.1f}"
    if free_bytes < need:
        return warn(
            "memory", fact, "lower REELVEC_SAMPLERS, or give the machine or container more memory"
        )
    return ok("memory", fact)


def judge_files(samplers: int, in_flight: int, soft: int, hard: int) -> Finding:
    need = samplers * SAMPLER_FILES + in_flight * VIDEO_FILES + OTHER_FILES
    unlimited = soft == resource.RLIM_INFINITY
    fact = f"{'no limit' if unlimited else f'{soft:,}'} open files, a worker takes about {need}"
    if not unlimited and soft < need:
        allowed = hard == resource.RLIM_INFINITY or hard >= need
        best = f"ulimit -n {need}" if allowed else f"have the hard limit raised to {need}"
        return warn("open files", fact, f"{best} before starting it, or lower REELVEC_SAMPLERS")
    return ok("open files", fact)


def disks() -> Iterator[Finding]:
    """Free space where something is written: the local stack, the models, temporary files."""
    from db import settings
    from db.stack.local_stack import LocalStack, default_data_dir
    from workers.settings import WorkerSettings
    from workers.weights import models_dir

    places = {"temporary files": Path(tempfile.gettempdir())}
    data_dir = default_data_dir()
    if LocalStack(data_dir).exists():
        places["local stack"] = data_dir
    models = models_dir.resolve(settings.load(WorkerSettings))
    if isinstance(models, Path):
        places["models"] = models
    for what, folder in places.items():
        yield judge_disk(what, folder, shutil.disk_usage(_existing(folder)).free)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def judge_disk(what: str, folder: Path, free_bytes: int) -> Finding:
    fact = f"{free_bytes / GIB:.0f} GiB free for {what} ({folder})"
    if free_bytes < LEAST_FREE_BYTES:
        return warn(
            "disk",
            fact,
            "make room: a video, a model or an index of millions of vectors takes some GiB",
        )
    return ok("disk", fact)
