"""CPU seconds of process trees so far, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    parent: int
    seconds: float


def stat_of(pid: int) -> Stat | None:
    """See proc_pid_stat(5); None for a process that has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS)


def is_sampler(pid: int) -> bool:
    try:
        return b"workers.sampling.inside.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def by_kind(roots: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of each named tree, of the processes that live; samplers under a name of their
    own.
    """
    stats = {
        int(path.name): stat
        for path in Path("/proc").glob("[0-9]*")
        if (stat := stat_of(int(path.name)))
    }
    kinds = {pid: kind for kind, pid in roots.items()}
    seconds = dict.fromkeys((*roots, "samplers"), 0.0)
    for pid, stat in stats.items():
        ancestor = pid
        while ancestor in stats and ancestor not in kinds:
            ancestor = stats[ancestor].parent
        if ancestor in kinds:
            seconds["samplers" if is_sampler(pid) else kinds[ancestor]] += stat.seconds
    return seconds
