"""Sampler processes that are killed, stopped, starved and lied to: each fault costs one video, and
the next one works.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from db.errors import RefusedConfigurationError, UsageError, VideoError
from tests import media
from tests.samplers import BLOCK, Held, MemorySource, is_gone, only_pid, program, seed_of, wait_for
from workers.sampling import blocks, child
from workers.sampling.plan import SHAPE
from workers.sampling.pool import START_ATTEMPTS, SamplerPool
from workers.sources.retrying import Cancelled


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.mp4"
    return media.make_clip(path, seconds=0.4, width=64, height=64, seed=7).read_bytes()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Several blocks long."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    data = media.make_clip(
        path, seconds=4, width=480, height=360, seed=8, options={"crf": "12"}
    ).read_bytes()
    assert len(data) > 4 * BLOCK
    return data


@pytest.fixture(scope="module")
def shared() -> Iterator[SamplerPool]:
    made = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    yield made
    made.close()


@pytest.fixture
def pool(shared: SamplerPool) -> SamplerPool:
    """One process, so that it is known which one has the video. What the test before did to its own
    costs this one nothing.
    """
    only_pid(shared)
    return shared


@pytest.fixture
def fresh() -> Iterator[SamplerPool]:
    """One that has just been made."""
    made = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    yield made
    made.close()


# What a sample says


def test_a_sample_has_its_own_memory_and_counts_what_it_took(
    pool: SamplerPool, large: bytes, tiny: bytes
) -> None:
    source = MemorySource(large)
    sample = pool.sample(source, "notebook")
    kept = sample.pixels.copy()
    assert seed_of(pool, tiny) == 7
    np.testing.assert_array_equal(sample.pixels, kept)
    assert sample.pixels.shape == SHAPE
    assert sample.pixels.dtype == np.uint8
    assert (
        [media.read_frame_number(frame) for frame in sample.pixels]
        == sample.indices.tolist()
        == list(range(96))
    )
    np.testing.assert_allclose(sample.pts_seconds, np.arange(96) * 0.04, atol=1e-6)
    assert (sample.facts.codec, sample.facts.width_px, sample.facts.height_px) == ("h264", 480, 360)
    assert (sample.facts.fps, sample.facts.duration_seconds) == (25, 4)
    assert (sample.decode_mode, sample.decode_errors, sample.frames_decoded) == ("sparse", 0, 96)
    assert sample.decode_seconds > 0
    assert sample.bytes_read == sum(min(BLOCK, len(large) - offset) for offset in source.reads)
    assert len(source.reads) == len(set(source.reads)), "a block was fetched twice"


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five minutes, 8 MiB or so."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return media.make_clip(
        path, seconds=300, fps=5, width=96, height=96, options={"crf": "1", "g": "20"}, seed=9
    )


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {}),
        ("mp4", {"movflags": "faststart"}),
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("mkv", {}),
    ],
)
def test_only_the_first_minute_is_read(
    suffix: str, options: dict[str, str], pool: SamplerPool, long_clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"copy.{suffix}"
    with av.open(str(long_clip)) as original, av.open(path, "w", options=options) as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    size_bytes = path.stat().st_size
    sample = pool.sample(MemorySource(path.read_bytes()), "notebook")
    assert sample.indices.tolist() == list(range(0, 288, 3))
    # the index, the block that a minute ends in, a block read ahead
    assert sample.bytes_read <= size_bytes * 60 / 300 + 3 * BLOCK < 0.7 * size_bytes


def test_a_hundred_videos_over_four_threads_keep_apart(tmp_path: Path) -> None:
    clips = [
        media.make_clip(
            tmp_path / f"{seed}.mp4", seconds=0.04, width=64, height=64, seed=seed
        ).read_bytes()
        for seed in range(100)
    ]
    pool = SamplerPool(3, wall_seconds=60, cpu_seconds=60)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda data: seed_of(pool, data), clips)) == list(range(100))
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("make", "code"),
    [(media.html, "not_media"), (media.truncated, "truncated"), (media.empty, "empty_file")],
)
def test_a_bad_video_has_its_code_and_leaves_the_process(
    make: Callable[[Path], Path], code: str, pool: SamplerPool, tiny: bytes, tmp_path: Path
) -> None:
    pid = only_pid(pool)
    with pytest.raises(VideoError) as caught:
        pool.sample(MemorySource(make(tmp_path / "bad.mp4").read_bytes()), "notebook")
    assert (caught.value.code, caught.value.stage) == (code, "sample")
    assert seed_of(pool, tiny) == 7
    assert pool.pids() == [pid]


def test_an_unknown_policy_is_a_mistake_of_the_caller(pool: SamplerPool, tiny: bytes) -> None:
    with pytest.raises(UsageError, match="notebook, uniform"):
        pool.sample(MemorySource(tiny), "every")


# What a process may do


def test_the_process_has_nothing(pool: SamplerPool, tiny: bytes) -> None:
    assert seed_of(pool, tiny) == 7
    process = Path(f"/proc/{only_pid(pool)}")
    limits = (process / "limits").read_text(encoding="ascii")
    words = {line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()}
    for none in ("Max core file size", "Max file size", "Max processes"):
        assert words[none] == "0"
    assert words["Max open files"] == "3"
    assert 60 <= int(words["Max cpu time"]) < 70
    status = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text(encoding="ascii").splitlines()
    )
    assert (status["NoNewPrivs"], status["Threads"], status["CapEff"], status["CapPrm"]) == (
        "1",
        "1",
        "0" * 16,
        "0" * 16,
    )
    assert (status["Seccomp"] == "2") is pool.has_seccomp
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGTERM - 1))
    if os.geteuid() != 0:  # it is not dumpable: nobody else may look
        with pytest.raises(PermissionError):
            (process / "environ").read_bytes()
        return
    assert (process / "environ").read_bytes() == b""
    assert str((process / "cwd").readlink()) == "/"
    opened = sorted(str(link.readlink()).split(":[")[0] for link in (process / "fd").iterdir())
    assert opened == ["/dev/null", "/dev/null", "/dev/null", "socket"]


def test_no_memory_file_on_this_system(monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> None:
    monkeypatch.delattr(os, "memfd_create")
    pool = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    try:
        assert seed_of(pool, tiny) == 7
    finally:
        pool.close()


# Faults


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_killed_process_costs_one_video(
    fault: signal.Signals, pool: SamplerPool, tiny: bytes
) -> None:
    pid = only_pid(pool)
    with pytest.raises(VideoError, match=fault.name) as caught:
        pool.sample(MemorySource(tiny, lambda offset: os.kill(pid, fault)), "notebook")
    assert (caught.value.code, caught.value.stage) == ("sampler_crashed", "sample")
    assert seed_of(pool, tiny) == 7
    assert only_pid(pool) != pid
    assert is_gone(pid)


def test_a_process_killed_between_videos_costs_none(pool: SamplerPool, tiny: bytes) -> None:
    assert seed_of(pool, tiny) == 7
    pid = only_pid(pool)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: [pid] if is_gone(pid) else [])
    assert seed_of(pool, tiny) == 7


def test_many_killed_between_videos_are_no_reason_to_refuse(tiny: bytes) -> None:
    """As many as may not become ready; but these were."""
    pool = SamplerPool(START_ATTEMPTS, wall_seconds=60, cpu_seconds=60)
    try:
        together = threading.Barrier(START_ATTEMPTS)
        with ThreadPoolExecutor(START_ATTEMPTS) as threads:
            one_each = [
                threads.submit(
                    pool.sample, MemorySource(tiny, lambda _: together.wait(30)), "notebook"
                )
                for _ in range(START_ATTEMPTS)
            ]
            assert all(future.result() for future in one_each)
        pids = pool.pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pids if all(map(is_gone, pids)) else [])
        assert seed_of(pool, tiny) == 7
    finally:
        pool.close()


@pytest.mark.parametrize(("killed", "lost"), [(1, False), (2, False), (3, True)])
def test_a_process_killed_before_it_reads_costs_no_video_unless_it_goes_on(
    killed: int, lost: bool, fresh: SamplerPool, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_ready, victims = child.Child.wait_ready, []

    def ready_and_killed(self: child.Child, check: child.Check) -> None:
        wait_ready(self, check)
        if len(victims) < killed:
            victims.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(child.Child, "wait_ready", ready_and_killed)
    if lost:
        with pytest.raises(VideoError, match="SIGKILL"):
            seed_of(fresh, tiny)
    else:
        assert seed_of(fresh, tiny) == 7
    assert len(victims) == killed
    wait_for(lambda: victims if all(map(is_gone, victims)) else [])


def test_a_hanging_process_is_killed_at_its_deadline(tiny: bytes) -> None:
    pool = SamplerPool(1, wall_seconds=1, cpu_seconds=60)
    try:
        pid = only_pid(pool)
        with pytest.raises(VideoError) as caught:
            pool.sample(MemorySource(tiny, lambda offset: os.kill(pid, signal.SIGSTOP)), "notebook")
        assert (caught.value.code, caught.value.stage) == ("sampler_timeout", "sample")
        assert is_gone(pid)
        assert only_pid(pool) != pid
    finally:
        pool.close()


def test_a_video_that_eats_the_processor_is_stopped(tmp_path: Path, tiny: bytes) -> None:
    with av.open(tmp_path / "heavy.mkv", "w") as opened:  # 96 pictures of 35 megapixels
        stream = opened.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 7000, 5000, "yuvj420p"
        (packet,) = [*stream.encode(av.VideoFrame(7000, 5000, "yuvj420p")), *stream.encode()]
        data = bytes(packet)
        for number in range(96):
            copy = av.Packet(data)
            copy.stream, copy.pts, copy.dts, copy.time_base = (
                stream,
                number,
                number,
                packet.time_base,
            )
            copy.is_keyframe = True
            opened.mux(copy)
    pool = SamplerPool(1, wall_seconds=60, cpu_seconds=1)
    try:
        with pytest.raises(VideoError, match="more than 1 s of CPU") as caught:
            pool.sample(MemorySource((tmp_path / "heavy.mkv").read_bytes()), "notebook")
        assert caught.value.code == "sampler_timeout"
        assert seed_of(pool, tiny) == 7
    finally:
        pool.close()


def test_a_stalling_source_hits_the_deadline_and_is_not_the_samplers_fault(large: bytes) -> None:
    pool = SamplerPool(1, wall_seconds=1, cpu_seconds=60)
    try:
        pid = only_pid(pool)
        with pytest.raises(VideoError) as caught:
            pool.sample(MemorySource(large, lambda offset: time.sleep(0.6)), "notebook")
        assert (caught.value.code, caught.value.stage) == ("fetch_timeout", "fetch")
        wait_for(lambda: [pid] if is_gone(pid) else [])
    finally:
        pool.close()


@pytest.mark.parametrize("failing", [0, BLOCK])
def test_an_error_of_the_source_passes_through_and_spares_the_process(
    failing: int, pool: SamplerPool, large: bytes, tiny: bytes
) -> None:
    def fail(offset: int) -> None:
        if offset == failing:
            raise VideoError("source_changed", "another version", stage="fetch")

    assert seed_of(pool, tiny) == 7
    pid = only_pid(pool)
    for _ in range(3):
        with pytest.raises(VideoError, match="another version") as caught:
            pool.sample(MemorySource(large, fail), "notebook")
        assert (caught.value.code, caught.value.stage) == ("source_changed", "fetch")
    assert seed_of(pool, tiny) == 7
    assert pool.pids() == [pid]


def test_an_error_while_reading_ahead_waits_until_the_block_is_asked_for(large: bytes) -> None:
    def fail(offset: int) -> None:
        if offset == 2 * BLOCK:
            raise VideoError("io_error", "unreadable", stage="fetch")

    asked = blocks.Blocks(MemorySource(large, fail))
    for index in (0, 1):
        assert asked.get(index) == large[index * BLOCK : (index + 1) * BLOCK]
        asked.read_ahead(index)
    with pytest.raises(VideoError, match="unreadable"):
        asked.get(2)
    assert asked.bytes_read == 2 * BLOCK


def test_blocks_are_read_ahead_only_where_somebody_reads_on(large: bytes) -> None:
    source = MemorySource(large)
    asked = blocks.Blocks(source)
    for index in (0, 3, 1, 2):  # a jump to the index at the end and back, then on
        asked.get(index)
        asked.read_ahead(index)
    assert source.reads == [0, 3 * BLOCK, BLOCK, 2 * BLOCK]
    asked.get(4)
    asked.read_ahead(4)
    asked.get(0)
    assert source.reads == [0, 3 * BLOCK, BLOCK, 2 * BLOCK, 4 * BLOCK]


def test_a_file_that_is_read_in_circles_comes_to_an_end() -> None:
    source = MemorySource(bytes(10 * BLOCK))
    asked = blocks.Blocks(source)
    for number in range(105):  # ten blocks in turn, of which eight are kept
        asked.get(number % 10)
    with pytest.raises(VideoError, match="in circles") as caught:
        asked.get(105 % 10)
    assert (caught.value.code, len(source.reads)) == ("over_limits", 105)


def test_a_short_read_is_a_changed_source(pool: SamplerPool, large: bytes) -> None:
    source = MemorySource(large)
    source.size_bytes += 10
    with pytest.raises(VideoError) as caught:
        pool.sample(source, "notebook")
    assert caught.value.code == "source_changed"


def test_a_defect_of_a_source_does_not_harm_the_next(pool: SamplerPool, tiny: bytes) -> None:
    def fail(offset: int) -> None:
        raise KeyError(offset)

    with pytest.raises(KeyError):
        pool.sample(MemorySource(tiny, fail), "notebook")
    assert seed_of(pool, tiny) == 7


# Stopping


def test_stop_ends_a_video_under_way(pool: SamplerPool, large: bytes, tiny: bytes) -> None:
    stop = threading.Event()
    with pytest.raises(Cancelled):
        pool.sample(MemorySource(large, lambda offset: stop.set()), "notebook", stop=stop)
    assert seed_of(pool, tiny) == 7


def test_stop_ends_the_wait_for_a_process(pool: SamplerPool, tiny: bytes) -> None:
    stop, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def hold(offset: int) -> None:
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.sample, MemorySource(tiny, hold), "notebook")
        assert begun.wait(30)
        second = threads.submit(pool.sample, MemorySource(tiny), "notebook", stop=stop)
        stop.set()
        with pytest.raises(Cancelled):
            second.result(30)
        go_on.set()
        assert media.read_seed(first.result(30).pixels[0]) == 7


def test_close_ends_what_is_under_way(large: bytes) -> None:
    pool = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    begun = threading.Event()

    def hold(offset: int) -> None:
        begun.set()
        time.sleep(0.2)

    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(pool.sample, MemorySource(large, hold), "notebook")
        assert begun.wait(30)
        pids = pool.pids()
        pool.close()
        with pytest.raises(Cancelled):
            under_way.result(30)
    assert all(map(is_gone, pids))
    with pytest.raises(Cancelled):
        pool.sample(MemorySource(large), "notebook")
    pool.close()


def test_processes_outlive_the_thread_that_first_used_them(pool: SamplerPool, tiny: bytes) -> None:
    for _ in range(3):
        thread = threading.Thread(target=lambda: seed_of(pool, tiny))
        thread.start()
        thread.join()
    pid = only_pid(pool)
    assert seed_of(pool, tiny) == 7
    assert pool.pids() == [pid]


def test_processes_die_with_their_worker() -> None:
    script = """
        import os, time
        from workers.sampling.pool import SamplerPool
        pool = SamplerPool(2, wall_seconds=9, cpu_seconds=9)
        while len(pool.pids()) < 2: time.sleep(0.01)
        print(*pool.pids(), flush=True)
        time.sleep(60)
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    with worker.stdout:
        pids = [int(word) for word in worker.stdout.readline().split()]
        worker.kill()
        worker.wait()
    assert len(pids) == 2
    wait_for(lambda: pids if all(map(is_gone, pids)) else [])


def test_videos_that_fail_in_the_worker_leave_nothing_behind(tiny: bytes) -> None:
    def fail(offset: int) -> None:
        raise VideoError("io_error", "no", stage="fetch")

    before = Held.now()
    pool = SamplerPool(2, wall_seconds=60, cpu_seconds=60)
    stop = threading.Event()
    seed_of(pool, tiny)
    wait_for(lambda: pool.pids() if len(pool.pids()) == 2 else [])
    with_pool = Held.now()
    for _ in range(5):
        with pytest.raises(VideoError):
            pool.sample(MemorySource(tiny, fail), "notebook")
        with pytest.raises(Cancelled):
            pool.sample(MemorySource(tiny, lambda offset: stop.set()), "notebook", stop=stop)
        stop.clear()
        seed_of(pool, tiny)
    wait_for(lambda: [1] if Held.now() == with_pool else [])
    pool.close()
    assert Held.now() == before


# Processes that lie, and that never start

LIAR = """
import json, os, pickle, socket, struct, sys
sock = socket.socket(fileno=int(sys.argv[4]))
def say(message):
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    sock.sendall(struct.pack(">I", len(text)) + text)
done = dict(kind="done", codec="h264", width_px=64, height_px=64, fps=25.0, duration_seconds=4.0, frame_count=100,
    indices=list(range(96)), pts_seconds=[0.0] * 96, frames_decoded=96, decode_mode="sparse", decode_errors=0,
    damaged_share=0.0, decode_seconds=0.1)
say(dict(kind="ready", seccomp=True))
sock.recv(4096)
{lie}
sock.recv(4096)
"""
LIES = {
    "too few positions": "say(done | dict(indices=[0] * 95))",
    "a negative position": "say(done | dict(indices=[-1] * 96))",
    "not a number": "say(json.dumps(done).replace('25.0', 'NaN').encode())",
    "a number in words": "say(done | dict(fps='25'))",
    "a codec of its own": "say(done | dict(codec='h264; drop table videos'))",
    "one field more": "say(done | dict(etag='x'))",
    "one field less": "say(dict(list(done.items())[:-1]))",
    "a code of its own": "say(dict(kind='failed', code='not_found', message=''))",
    "an unknown word": "say(dict(kind='hello'))",
    "ready twice": "say(dict(kind='ready', seccomp=True))",
    "a pickle": "say(pickle.dumps(done))",
    "a block behind the end": "say(dict(kind='read', block=1, slot=0))",
    "a block before the start": "say(dict(kind='read', block=-1, slot=0))",
    "a slot of its own": "say(dict(kind='read', block=0, slot=2))",
    "a slot over the frames": "say(dict(kind='read', block=0, slot=-1))",
    "an endless message": "sock.sendall(struct.pack('>I', 1 << 31))",
    "memory cut short": "os.ftruncate(int(sys.argv[5]), 0); say(done)",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_process_that_lies_is_not_believed(
    lie: str, tmp_path: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path / "liar", LIAR.format(lie=LIES[lie])))
    pool = SamplerPool(1, wall_seconds=30, cpu_seconds=30)
    try:
        with pytest.raises(VideoError, match="nonsense") as caught:
            pool.sample(MemorySource(tiny), "notebook")
        assert caught.value.code == "sampler_crashed"
        monkeypatch.undo()
    finally:
        pool.close()


def test_the_liar_is_believed_when_it_tells_the_truth(
    tmp_path: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the lies above might fail for another reason."""
    monkeypatch.setattr(sys, "executable", program(tmp_path / "liar", LIAR.format(lie="say(done)")))
    pool = SamplerPool(1, wall_seconds=30, cpu_seconds=30)
    try:
        assert pool.sample(MemorySource(tiny), "notebook").facts.width_px == 64
    finally:
        pool.close()


def test_unprintable_words_of_a_sampler_are_cleaned() -> None:
    failed = child.parse(
        b'{"kind": "failed", "code": "not_media", "message": "a\\u0000b\\n\\u001b[31m\\u202e'
        + b"x" * 900
        + b'"}'
    )
    assert failed.clean_message.startswith("a?b??[31m?")
    assert failed.clean_message.isprintable()
    assert len(failed.clean_message) <= 500


def test_processes_that_cannot_start_refuse_the_configuration(
    tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = SamplerPool(1, wall_seconds=30, cpu_seconds=30)
    try:
        with pytest.raises(RefusedConfigurationError, match=r"workers\.sampling\.inside\.process"):
            pool.sample(MemorySource(tiny), "notebook")
        monkeypatch.undo()
    finally:
        pool.close()


def test_no_process_to_be_had_is_an_error_that_passes(
    tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pool = SamplerPool(1, wall_seconds=30, cpu_seconds=30)
    try:
        with pytest.raises(VideoError, match="no sampler process can be started") as caught:
            pool.sample(MemorySource(tiny), "notebook")
        assert caught.value.code == "internal"
        monkeypatch.undo()
        with contextlib.suppress(VideoError):  # its process may have been ordered before
            seed_of(pool, tiny)
        assert seed_of(pool, tiny) == 7
    finally:
        pool.close()
