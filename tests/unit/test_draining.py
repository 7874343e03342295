"""What a worker's end is made of: the notice, the lock of a GPU, the lot of a process, and the
drain.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from uuid import uuid4

import pytest

from db.errors import UnavailableError, UsageError
from db.exit_codes import ExitCode
from tests.http_server import Handler, WebServer, serving
from workers.ending import draining, recycling
from workers.ending.draining import Drain
from workers.ending.recycling import Recycling
from workers.node import gpu_lock, lifeline, notice

SOON = 20.0


# --- notice


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "INTERVAL_SECONDS", 0.02)


def answering(*answers: tuple[int, bytes]) -> Callable[[Handler], bool]:
    """A metadata service that gives one answer after the other, the last one again and again."""
    left = list(answers)

    def bend(handler: Handler) -> bool:
        status, body = left.pop(0) if len(left) > 1 else left[0]
        handler.answer(status, body)
        return True

    return bend


@pytest.mark.parametrize(
    "answers",
    [
        [(404, b""), (404, b""), (200, b'{"action": "terminate"}')],  # AWS
        [(200, b"FALSE"), (200, b"FALSE\n"), (200, b"TRUE")],  # Google
        [(500, b"TRUE"), (302, b"TRUE"), (200, b"")],
    ],
)
def test_an_address_gives_notice(
    answers: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    given = threading.Event()
    server: WebServer
    with serving(bend=answering(*answers)) as server:
        notice.watch(server.url("/preempted"), given.set)
        assert given.wait(SOON)
        assert len(server.requests) == 3


def trouble(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message
        for record in caplog.records
        if "REELVEC_SPOT_NOTICE cannot be asked" in record.message
    ]


def test_a_command_gives_notice_and_one_that_cannot_be_run_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given, count = threading.Event(), tmp_path / "count"
    notice.watch(
        f"echo >> {count}; n=$(wc -l < {count}); [ $n -gt 2 ] || exit 127; [ $n -gt 4 ]", given.set
    )
    assert given.wait(SOON)
    assert len(count.read_text().splitlines()) == 5
    assert len(trouble(caplog)) == 1


def test_an_address_that_does_not_answer_is_no_notice(caplog: pytest.LogCaptureFixture) -> None:
    given = threading.Event()

    def bend(handler: Handler) -> bool:
        if len(server.requests) <= 3:
            handler.cut()
        else:
            handler.answer(200, b"TRUE")
        return True

    with serving(bend=bend) as server:
        notice.watch(server.url("/preempted"), given.set)
        assert given.wait(SOON)
        assert len(server.requests) == 4
    assert len(trouble(caplog)) == 1


# --- lifeline


def test_a_lifeline_ends_with_its_supervisor() -> None:
    line, gone = lifeline.Lifeline(), threading.Event()
    theirs = os.dup(line.worker_end)
    lifeline.watch(theirs, gone.set)
    assert not gone.wait(0.2)
    line.cut()
    assert gone.wait(SOON)
    os.close(theirs)
    with pytest.raises(
        UsageError, match=f"REELVEC_LIFELINE_FD is {theirs}, which is no open descriptor"
    ):
        lifeline.watch(theirs, gone.set)


# --- one worker per GPU

HOLD = (
    "import sys, time; from workers.node import gpu_lock; lock = gpu_lock.take(sys.argv[1], "
    "wait_seconds=0);print(1, flush=True); time.sleep(60)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="GPUs are locked on Linux")
def test_a_gpu_has_one_worker_and_the_next_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    gpu = str(uuid4())
    other = subprocess.Popen([sys.executable, "-c", HOLD, gpu], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(UnavailableError, match=rf"GPU {gpu} is in use by process {other.pid}"):
        gpu_lock.take(gpu, wait_seconds=0.3)
    threading.Timer(0.3, other.send_signal, args=(signal.SIGKILL,)).start()
    lock = gpu_lock.take(gpu, wait_seconds=SOON)
    assert lock is not None
    assert f"is in use by process {other.pid}: waiting" in caplog.text
    second = gpu_lock.take(str(uuid4()), wait_seconds=0)
    assert second is not None, "another GPU is nobody's"
    for held in (lock, second):
        held.close()
    other.wait()
    other.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="GPUs are locked on Linux")
def test_where_nothing_can_be_locked_the_worker_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert gpu_lock.take("x" * 200, wait_seconds=0) is None
    assert "a second worker on it would not be noticed" in caplog.text


# --- recycling


def test_a_process_has_a_lot_of_videos() -> None:
    lot = Recycling(3, None)
    lot.refuse_if_reached()
    assert [lot.count_video() for _ in range(4)] == [None, None, "3 videos", "4 videos"]
    endless = Recycling(None, None)
    assert {endless.count_video() for _ in range(10)} == {None}


def test_a_process_has_a_limit_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held = recycling.held_bytes()
    assert 1 << 20 < held < 1 << 40
    with pytest.raises(UsageError, match="REELVEC_RECYCLE_BYTES is 1000, but this worker holds"):
        Recycling(None, 1000).refuse_if_reached()
    limited = Recycling(None, 1000)
    amounts = iter([999, 1000])
    monkeypatch.setattr(recycling, "held_bytes", lambda: next(amounts))
    assert [limited.count_video() for _ in range(2)] == [
        None,
        "1000 bytes of memory after 2 videos",
    ]


# --- the drain


class Process:
    """What a drain does to its process, without one. `code` is there once it has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, hard_seconds: float) -> None:
        self.codes: SimpleQueue[int] = SimpleQueue()
        self.stopped = threading.Event()
        monkeypatch.setattr(draining, "PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(draining, "RETRY_SECONDS", 0.01)
        monkeypatch.setattr("os._exit", self._end)
        monkeypatch.setattr(draining, "end_process", lambda code, reason: self._end(code))
        self.drain = Drain(hard_seconds, self.stopped.set)

    def _end(self, code: int) -> None:
        self.codes.put(code)
        threading.Event().wait()  # nothing comes after it

    def code(self) -> int:
        return self.codes.get(timeout=SOON)


def test_a_process_that_is_not_ready_yet_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, hard_seconds=SOON)
    assert not process.drain.begun.is_set()
    process.drain.ask("SIGTERM")
    assert process.code() == 0
    assert not process.stopped.is_set(), "Celery has not begun"


def test_what_threads_do_not_hand_back_is_handed_back_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first who asked says what the end is called; a database that is away is waited for."""
    process = Process(monkeypatch, hard_seconds=SOON)
    tries = iter([UnavailableError("away"), UnavailableError("away"), None])

    def give_back() -> None:
        assert process.drain.begun.is_set()
        assert process.stopped.is_set()
        if (error := next(tries)) is not None:
            raise error

    process.drain.ready(give_back)
    process.drain.ask("recycling", ExitCode.RECYCLED)
    process.drain.ask("SIGTERM")
    assert process.code() == 76
    assert list(tries) == []


def test_the_hard_limit_holds_when_nothing_can_be_handed_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process(monkeypatch, hard_seconds=0.2)

    def give_back() -> None:
        raise UnavailableError("away")

    process.drain.ready(give_back)
    process.drain.ask("SIGTERM")
    assert process.code() == 75
