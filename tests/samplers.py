"""Sampler processes for tests: sources made of bytes, what is left behind, and children in which a
video names a fault.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from db.errors import VideoError
from tests import media
from tests.faulty_sampler import BLOCK, MARK
from workers.sampling.pool import SamplerPool

ROOT = Path(__file__).parent.parent
#: Of this run; a test may have a program in its place.
PYTHON = sys.executable

#: What ends a video, from `tests.faulty_sampler`, and the code it must end with.
CODES = {
    **dict.fromkeys(("segfault", "abort", "no_memory_and_abort", "leave"), "sampler_crashed"),
    "defect": "sampler_defect",
    **dict.fromkeys(("python_loop", "c_loop", "hang", "deaf_hang", "locked"), "sampler_timeout"),
    **dict.fromkeys(("small_pieces", "one_big_piece", "touched_pages"), "over_limits"),
    **dict.fromkeys(("descriptors", "processes", "files", "network", "others"), "undecodable"),
}
#: What a child with faults may use beside its libraries: the shipped limit would take seconds to
#: fill.
FAULTY_MEMORY_BYTES = 256 << 20


class MemorySource:
    """A `ByteSource` of bytes; `on_read(offset)` is called before each read."""

    etag = None
    open_seconds = 0.0

    def __init__(self, data: bytes, on_read: Callable[[int], object] = lambda offset: None) -> None:
        self._data = data
        self._on_read = on_read
        self.size_bytes = len(data)
        self.reads: list[int] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append(offset)
        self._on_read(offset)
        return self._data[offset : offset + length]

    def close(self) -> None: ...
    def __enter__(self) -> MemorySource:
        return self

    def __exit__(self, *_: object) -> None: ...


def seed_of(pool: SamplerPool, data: bytes) -> int:
    return media.read_seed(pool.sample(MemorySource(data), "notebook").pixels[0])


def only_pid(pool: SamplerPool) -> int:
    (pid,) = wait_for(pool.pids)
    return pid


def wait_for(look: Callable[[], list[Any]], *, seconds: float = 30) -> list[Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.01)
    raise AssertionError("it never came")


def is_gone(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
            == "Z"
        )
    except FileNotFoundError:
        return True


class Held(NamedTuple):
    """What this process has of the system: open descriptors (a memfd is one), children, threads."""

    descriptors: int
    children: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        tasks = list(Path("/proc/self/task").iterdir())
        children = sum(
            len((task / "children").read_text(encoding="ascii").split()) for task in tasks
        )
        return cls(len(list(Path("/proc/self/fd").iterdir())), children, len(tasks))


def resident_bytes(pid: int | str = "self") -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def program(path: Path, text: str) -> str:
    """Write a program to put in the place of `sys.executable`: a sampler's own arguments are its
    arguments from 4 on.
    """
    path.write_text(f"#!{PYTHON} -I\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def faulty(path: Path, before: str = "") -> str:
    """A program that is the shipped sampler, `before` run first, with the faults of
    `tests.faulty_sampler`.
    """
    return program(
        path,
        "import os, sys\nos.environ['OPENBLAS_NUM_THREADS'] = "
        f"'1'\nsys.path.append({str(ROOT)!r})\n"
        "from tests import faulty_sampler as faulty\n"
        "faulty.lockdown.MEMORY_BYTES = "
        f"{FAULTY_MEMORY_BYTES}\n{before}\nfaulty.main(sys.argv[4:])\n",
    )


@contextlib.contextmanager
def faulty_pool(
    folder: Path,
    size: int = 1,
    *,
    wall_seconds: float = 60,
    cpu_seconds: int = 60,
    before: str = "",
) -> Iterator[SamplerPool]:
    """A pool of such samplers. Other pools of this process must not start samplers meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", faulty(folder / "sampler", before))
        pool = SamplerPool(size, wall_seconds=wall_seconds, cpu_seconds=cpu_seconds)
        try:
            yield pool
        finally:
            pool.close()


def end_of(pool: SamplerPool, fault: str) -> VideoError:
    """The error that a video with this fault ends with."""
    with pytest.raises(VideoError) as caught:
        pool.sample(MemorySource(video_with(fault)), "notebook")
    assert caught.value.stage == "sample"
    return caught.value


def endure(pool: SamplerPool, good: bytes, faults: list[str]) -> None:
    """Give the pool, from two threads, each fault and after each a good video, made with seed 7."""

    def one(fault: str) -> None:
        error = end_of(pool, fault)
        assert error.code == CODES[fault], f"{fault}: {error.code}: {error}"
        assert seed_of(pool, good) == 7

    with ThreadPoolExecutor(2) as threads:
        for _ in threads.map(one, faults):
            pass


def video_with(fault: str, blocks: int = 1) -> bytes:
    """A "video" at which such a sampler does what `tests.faulty_sampler` has under that name."""
    return (MARK + fault.encode() + b"\n").ljust(64 if blocks == 1 else blocks * BLOCK, b" ")
