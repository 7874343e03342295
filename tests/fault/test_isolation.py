"""Faults injected into a real sampler process: each costs one video, with the right code, and the
next one works.
"""

from __future__ import annotations

import logging
import math
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db.errors import VideoError
from tests import media
from tests.samplers import (
    BLOCK,
    CODES,
    FAULTY_MEMORY_BYTES,
    PYTHON,
    Held,
    MemorySource,
    end_of,
    endure,
    faulty,
    faulty_pool,
    is_gone,
    only_pid,
    resident_bytes,
    seed_of,
    video_with,
    wait_for,
)
from workers.sampling import wire
from workers.sampling.inside import lockdown, seccomp
from workers.sampling.plan import SHAPE
from workers.sampling.pool import SamplerPool


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.mp4"
    return media.make_clip(path, seconds=0.4, width=64, height=64, seed=7).read_bytes()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamplerPool]:
    """One process that can be made to fail; 1 s of CPU a video."""
    with faulty_pool(tmp_path_factory.mktemp("faulty"), cpu_seconds=1) as made:
        yield made


needs_filter = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in seccomp.MACHINES,
    reason="no seccomp for this machine",
)


# What kills a process and what does not


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("segfault", "sampler_crashed", "SIGSEGV"),
        ("abort", "sampler_crashed", "SIGABRT"),
        ("no_memory_and_abort", "sampler_crashed", "SIGABRT"),
        ("leave", "sampler_crashed", "exit code 3"),
        ("defect", "sampler_defect", "a defect of ours"),
        ("c_loop", "sampler_timeout", "more than 1 s of CPU; REELVEC_SAMPLING_CPU_SECONDS"),
    ],
)
def test_a_fault_costs_one_video_and_its_process(
    fault: str, code: str, words: str, pool: SamplerPool, tiny: bytes
) -> None:
    pid = only_pid(pool)
    error = end_of(pool, fault)
    assert error.code == code
    assert words in str(error)
    assert seed_of(pool, tiny) == 7
    assert only_pid(pool) != pid
    assert is_gone(pid)


@pytest.mark.parametrize("fault", ["small_pieces", "one_big_piece", "touched_pages"])
def test_a_memory_bomb_costs_one_video_and_leaves_the_process(
    fault: str, pool: SamplerPool, tiny: bytes
) -> None:
    assert seed_of(pool, tiny) == 7
    pid = only_pid(pool)
    error = end_of(pool, fault)
    assert error.code == "over_limits"
    assert f"{FAULTY_MEMORY_BYTES >> 20} MiB of memory" in str(error)
    assert seed_of(pool, tiny) == 7
    assert pool.pids() == [pid]
    assert resident_bytes(pid) < FAULTY_MEMORY_BYTES / 2, "it was not given back"


def test_hangs_end_at_their_deadline(tmp_path: Path, tiny: bytes) -> None:
    with faulty_pool(tmp_path, 3, wall_seconds=2) as pool, ThreadPoolExecutor(3) as threads:
        pids = wait_for(lambda: pool.pids() if len(pool.pids()) == 3 else [])
        for error in threads.map(
            lambda fault: end_of(pool, fault), ["hang", "deaf_hang", "locked"]
        ):
            assert error.code == "sampler_timeout"
            assert "more than 2 s; REELVEC_SAMPLING_WALL_SECONDS" in str(error)
        assert all(map(is_gone, pids))
        assert seed_of(pool, tiny) == 7


# What a process may do


@needs_filter
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("descriptors", "7 tried, worked: []"),
        ("processes", "5 tried, worked: []"),
        ("files", "9 tried, worked: []"),
        ("network", "6 tried, worked: []"),
        ("others", "9 tried, worked: []"),
        ("every_other_call", " asked, answered: {}"),
        ("what_it_needs", "40 MiB and 4000 pieces"),
    ],
)
def test_a_process_can_do_nothing_but_what_it_needs(
    fault: str, words: str, pool: SamplerPool, tiny: bytes
) -> None:
    assert seed_of(pool, tiny) == 7
    pid = only_pid(pool)
    error = end_of(pool, fault)
    assert error.code == "undecodable", error
    assert words in str(error)
    assert seed_of(pool, tiny) == 7
    assert pool.pids() == [pid]
    assert pool.has_seccomp


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="has no second table of calls")
def test_the_calls_of_another_machine_are_refused(pool: SamplerPool) -> None:
    error = end_of(pool, "table_of_32_bits")
    assert (error.code, str(error)) == ("undecodable", "answer -1") or "SIGSEGV" in str(error)


def test_what_holds_without_a_filter(
    tmp_path: Path, tiny: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with faulty_pool(tmp_path, before="faulty.seccomp.install = lambda: False") as pool:
        assert pool.has_seccomp is None
        with caplog.at_level(logging.WARNING):
            assert seed_of(pool, tiny) == 7
            end_of(pool, "leave")
            assert seed_of(pool, tiny) == 7
        assert pool.has_seccomp is False
        assert [
            record.levelname for record in caplog.records if "seccomp" in record.getMessage()
        ] == ["WARNING"]
        assert "7 tried, worked: []" in str(end_of(pool, "descriptors"))
        assert end_of(pool, "touched_pages").code == "over_limits"
        assert seed_of(pool, tiny) == 7


@needs_filter
def test_threads_that_have_not_run_before_the_filter_do_not_end_the_process(
    tmp_path: Path, tiny: bytes
) -> None:
    """As those of numpy's BLAS on a machine with many cores and little time."""
    before = """
import ctypes, resource
def late(what, value, limit=faulty.lockdown._limit):
    if what == resource.RLIMIT_NPROC:  # the last moment at which threads can be made
        libc, made = ctypes.CDLL(None), (ctypes.c_ulong * 16)()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        for n in range(16):
            assert not libc.pthread_create(ctypes.byref(made, 8 * n), None, ctypes.cast(libc.sleep, ctypes.c_void_p), 99)
    limit(what, value)
faulty.lockdown._limit = late
"""
    with faulty_pool(tmp_path, before=before) as pool:
        for _ in range(3):
            pid = only_pid(pool)
            assert seed_of(pool, tiny) == 7
            assert pool.pids() == [pid]
            end_of(pool, "leave")


def test_another_machine_has_no_filter_rather_than_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seccomp, "MACHINES", {})
    assert seccomp.install() is False


def test_the_limit_is_counted_beside_the_libraries(
    tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", PYTHON)
    pool = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    try:
        assert seed_of(pool, tiny) == 7
        process = Path(f"/proc/{only_pid(pool)}")
        mapped_bytes = int((process / "statm").read_text(encoding="ascii").split()[0]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
        limits = (process / "limits").read_text(encoding="ascii")
        limit_bytes = int(limits.split("Max address space")[1].split()[0])
        assert abs(limit_bytes - mapped_bytes - lockdown.MEMORY_BYTES) < 64 << 20
        assert (process / "oom_score_adj").read_text(encoding="ascii") == "1000\n"
    finally:
        pool.close()


# Nothing is left behind


def test_faults_of_every_kind_leave_nothing_behind(tmp_path: Path, tiny: bytes) -> None:
    """`make soak` runs a thousand."""
    cheap = [
        fault for fault, code in CODES.items() if code in ("over_limits", "undecodable")
    ]  # the process goes on
    faults = [*CODES, *cheap]
    random.Random(4).shuffle(faults)
    before = Held.now()
    with faulty_pool(tmp_path, 2, wall_seconds=4, cpu_seconds=1) as pool:
        endure(pool, tiny, faults)
        wait_for(lambda: [pid for pid in pool.pids() if len(pool.pids()) == 2])
        pids = pool.pids()
    wait_for(lambda: [True] if Held.now() == before else [])  # a thread may be about to end
    assert all(map(is_gone, pids))


def test_a_process_killed_at_each_moment_costs_one_video_at_most(
    pool: SamplerPool, tiny: bytes
) -> None:
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: [pid] if is_gone(pid) else [])

    end_of(pool, "leave")
    kill(only_pid(pool))  # while it starts
    assert seed_of(pool, tiny) == 7
    kill(only_pid(pool))  # idle
    assert seed_of(pool, tiny) == 7
    for moment in (0, BLOCK):  # it waits for its first block; half of its frames are written
        pid = only_pid(pool)
        reads = MemorySource(
            video_with("half_written", blocks=2),
            lambda offset, at=moment, pid=pid: offset == at and kill(pid),
        )
        with pytest.raises(VideoError, match="SIGKILL"):
            pool.sample(reads, "notebook")
        sample = pool.sample(MemorySource(tiny), "notebook")
        assert [media.read_seed(frame) for frame in sample.pixels] == [7] * 96


def test_a_busy_process_dies_with_its_worker(tmp_path: Path) -> None:
    script = """
        import sys, threading
        sys.path.append(sys.argv[2])
        from tests.samplers import MemorySource, SamplerPool, only_pid, video_with
        sys.executable = sys.argv[1]
        pool = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
        source = MemorySource(video_with("deaf_hang"), lambda offset: print(only_pid(pool), flush=True))
        pool.sample(source, "notebook")
    """
    arguments = [faulty(tmp_path / "python"), str(Path(__file__).parents[2])]
    worker = subprocess.Popen(
        [PYTHON, "-c", textwrap.dedent(script), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    with worker.stdout:
        pid = int(worker.stdout.readline())
        worker.kill()
        worker.wait()
    wait_for(lambda: [pid] if is_gone(pid) else [])


def test_a_process_whose_worker_is_gone_already_does_not_begin(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "frames").open("w+b") as frames:
        frames.truncate(wire.FRAMES_START + math.prod(SHAPE))
        descriptors = (theirs.fileno(), frames.fileno())
        ran = subprocess.run(
            [
                PYTHON,
                "-I",
                "-m",
                "workers.sampling.inside.process",
                *map(str, descriptors),
                "60",
                "1",
            ],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        theirs.close()
        assert (ran.returncode, ours.recv(100)) == (0, b"")
