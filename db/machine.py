"""What this machine lends to a process: cores, memory, GPUs. Read from the kernel; torch is not
asked.

In a container the limits are those of its control group and of the groups above it: the machine's
own numbers are larger, and what is shaped by them is throttled or killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
DEVICE_FILES = Path("/dev")


def cores() -> float:
    """Cores this process may use: of the machine, of its affinity, of its container's quota (a
    fraction is possible).
    """
    here = getattr(os, "sched_getaffinity", None)
    return min([float(len(here(0)) if here else os.cpu_count() or 1), *_quotas()])


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or its container's limit."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_memory_limits()])


def visible_gpus() -> list[str]:
    """Ids for CUDA_VISIBLE_DEVICES, without loading torch: those the environment allows, else one
    per device node.

    CUDA counts the devices it sees from 0, whatever the numbers of their nodes are in a container
    that got only some.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [
            gpu.strip() for gpu in allowed.split(",") if gpu.strip() not in ("", "-1", "NoDevFiles")
        ]
    nodes = [path for path in DEVICE_FILES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(index) for index in range(len(nodes))]


def _quotas() -> Iterator[float]:
    """`cpu.max` is `200000 100000` or `max 100000`; version 1 has a file for each of the two, -1
    for no quota.
    """
    for folder in _groups("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota, period = (
            quota or _read(folder / "cpu.cfs_quota_us"),
            period or _read(folder / "cpu.cfs_period_us"),
        )
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)


def _memory_limits() -> Iterator[int]:
    """Without a limit `max`, in version 1 a number beyond every machine's memory."""
    for folder in _groups("memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if limit.isdecimal():
            yield int(limit)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and those above it, of version 2 and of 1.

    The path in /proc is the host's where the container has no namespace of its own; then only the
    root is there, and it is the container's.
    """
    for line in _read(OWN_CGROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        folder = root / path.strip("/")
        yield folder
        while folder != root:
            folder = folder.parent
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
