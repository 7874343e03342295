"""Limits of control groups, read from folders made as the kernel and the container engines make
them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db import machine

PHYSICAL_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Groups:
    """`/proc/self/cgroup` and the mounted tree below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / "own"

    def member_of(self, *lines: str) -> None:
        self.own.write_text("\n".join(lines) + "\n")

    def write(self, **files: str) -> None:
        """`write(**{"a/cpu.max": "max 100000"})`."""
        for name, text in files.items():
            path = self.folder / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """On a machine of 16 cores."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "tree")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return Groups(tmp_path)


def found() -> tuple[float, int]:
    return machine.cores(), machine.memory_bytes()


def test_no_control_groups(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found() == (16, PHYSICAL_BYTES)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert machine.cores() == 8


def test_version_2_in_a_container(groups: Groups) -> None:
    groups.member_of("0::/")
    groups.write(**{"cpu.max": "350000 100000", "memory.max": str(64 << 20)})
    assert found() == (3.5, 64 << 20)


def test_version_2_of_a_service_and_the_slice_above_it(groups: Groups) -> None:
    groups.member_of("0::/work.slice/reelvec.service")
    groups.write(**{
        "work.slice/cpu.max": "400000 100000", "work.slice/memory.max": "max",
        "work.slice/reelvec.service/cpu.max": "max 100000", "work.slice/reelvec.service/memory.max": str(32 << 20),
        "other.slice/cpu.max": "100000 100000",
    })  # fmt: skip
    assert found() == (4, 32 << 20)


def test_version_1_in_a_container_that_sees_the_hosts_path(groups: Groups) -> None:
    groups.member_of(
        "9:name=systemd:/", "4:memory:/docker/abc", "3:cpu,cpuacct:/docker/abc", "0::/"
    )
    groups.write(**{
        "cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": str(16 << 20),
    })  # fmt: skip
    assert found() == (2, 16 << 20)


def test_version_1_without_limits(groups: Groups) -> None:
    groups.member_of("4:memory:/a", "3:cpu:/a")
    groups.write(**{
        "cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000",
        "memory/a/memory.limit_in_bytes": "9223372036854771712", "memory/memory.limit_in_bytes": "9223372036854771712",
    })  # fmt: skip
    assert found() == (16, PHYSICAL_BYTES)


def test_more_quota_than_cores_gives_no_more(groups: Groups) -> None:
    groups.member_of("0::/")
    groups.write(**{"cpu.max": "3200000 100000"})
    assert machine.cores() == 16


@pytest.mark.parametrize(
    ("allowed", "gpus"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,5", ["2", "5"]),
        ("GPU-abc", ["GPU-abc"]),
        (None, ["0", "1"]),
    ],
)
def test_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: str | None, gpus: list[str]
) -> None:
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(machine, "DEVICE_FILES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert machine.visible_gpus() == gpus
