"""How workers end and begin: whatever told them to, what they had in hand is somebody else's at
once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import Engine, create_engine, text

from db.stack.local_stack import StackState
from tests.conftest import FAST, Desk, WorkerProcess
from tests.golden_run import assert_nothing_lost_nothing_doubled, probe_vectors, small_clips
from tests.http_server import Handler, serving
from tests.ledgering import one

#: All of them, and the lot of a process that recycles.
VIDEOS, LOT = 36, 15
#: `reelvec worker --gpus none` that starts again after 0.1 s instead of 5.
SUPERVISOR = (
    "from workers.node import supervisor; supervisor.FIRST_DELAY_SECONDS = 0.1; raise "
    "SystemExit(supervisor.run('none'))"
)


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.05)


def in_hand(engine: Engine) -> int:
    return int(str(one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'running'")))


def done(engine: Engine) -> int:
    return int(str(one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")))


def assert_all_is_handed_back(engine: Engine) -> None:
    """Nothing is anybody's, no attempt is burnt, no death is counted, and the workers have said
    goodbye.
    """
    assert in_hand(engine) == 0
    assert_no_attempt_is_burnt(engine)
    assert one(engine, "SELECT count(*) FROM reelvec.workers") == 0


def assert_no_attempt_is_burnt(engine: Engine) -> None:
    burnt = "SELECT count(*) FROM reelvec.jobs WHERE state IN ('pending', 'queued') AND attempts + lost_count > 0"
    assert one(engine, burnt) == 0


@contextmanager
def no_connections(stack: StackState, engine: Engine) -> Iterator[None]:
    """Postgres is away for everybody but an administrator."""
    server = create_engine(stack.database_url, isolation_level="AUTOCOMMIT")
    name = engine.url.database
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        )
        yield
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()
    engine.dispose()


@pytest.fixture
def supervise(desk: Desk) -> Iterator[Callable[..., psutil.Popen]]:
    """Starts supervisors of one worker on the CPU; all processes are gone afterwards."""
    started: list[psutil.Popen] = []

    def start(log: Path, **variables: str) -> psutil.Popen:
        environment = {**desk.environment, **FAST, "REELVEC_SAMPLERS": "1", **variables}
        with log.open("wb") as out:
            started.append(
                psutil.Popen(
                    [sys.executable, "-c", SUPERVISOR], env=environment, stdout=out, stderr=out
                )
            )
        return started[-1]

    yield start
    for supervisor in started:
        if supervisor.is_running():
            for process in [*supervisor.children(), supervisor]:
                process.kill()
            supervisor.wait()


@pytest.mark.timeout(300)  # four processes start one after the other, each in 4 s of CPU
def test_workers_outlive_no_supervisor_and_come_back_whatever_was_away(
    desk: Desk,
    supervise: Callable[..., psutil.Popen],
    tmp_path: Path,
    engine: Engine,
    stack: StackState,
    broker_url: str,
) -> None:
    """SIGKILL of the supervisor; a worker that recycles; Postgres away when the next one starts; a
    spot notice.
    """
    golden = probe_vectors(small_clips(tmp_path / "clips", VIDEOS))
    enqueue = ("enqueue", str(tmp_path / "clips"), "--backbone", "probe")
    desk.run(*enqueue)
    log = tmp_path / "first.log"
    killed = supervise(log)
    until(lambda: done(engine) >= 5)
    shape = "SELECT (device, samplers, videos_per_batch, in_flight)::text FROM reelvec.workers"
    assert one(engine, shape) == "(cpu,1,1,3)"
    assert (
        "ready on cpu: 1 sampler (REELVEC_SAMPLERS), 3 videos in flight, batches of 1 video"
        in log.read_text()
    )
    (worker,) = killed.children()
    killed.kill()
    killed.wait()
    until(lambda: not worker.is_running())
    assert_all_is_handed_back(engine)
    assert "Traceback" not in log.read_text()
    before = done(engine)
    assert before < VIDEOS - LOT, "it was stopped in the middle"

    log, notice = tmp_path / "second.log", tmp_path / "notice"
    supervisor = supervise(
        log, REELVEC_RECYCLE_VIDEOS=str(LOT), REELVEC_SPOT_NOTICE=f"test -e {notice}"
    )
    until(lambda: "ended with 76; starting it again at once" in log.read_text())
    assert_no_attempt_is_burnt(engine)  # the next one may be here; who said goodbye is seen below
    assert before + LOT <= done(engine) < VIDEOS
    with no_connections(stack, engine):
        until(lambda: "ended with 69; starting it again" in log.read_text())
    desk.run(*enqueue, "--wait")
    notice.touch()
    assert supervisor.wait(timeout=60) == 0
    assert_all_is_handed_back(engine)
    assert "Traceback" not in log.read_text()
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden)


def test_a_worker_whose_reads_hang_drains_all_the_same(
    desk: Desk,
    tmp_path: Path,
    engine: Engine,
    broker_url: str,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """All places wait for a server that has stopped in mid-body, for longer than a drain may take.
    Signals of all kinds.
    """
    clip = small_clips(tmp_path / "clips", 1)[0].read_bytes()

    def stall(handler: Handler) -> bool:
        handler.begin(206, len(clip), {"Content-Range": f"bytes 0-{len(clip) - 1}/{len(clip)}"})
        handler.wfile.write(clip[:100])
        handler.wfile.flush()
        handler.shared.closing.wait(60)
        handler.cut()
        return True

    with serving(bend=stall) as server:
        urls = "\n".join(server.url(f"/{number}.mp4") for number in range(12))
        desk.run("enqueue", "-", "--backbone", "probe", stdin=urls)
        worker = start_worker(REELVEC_HTTP_ALLOW_PRIVATE="true", REELVEC_FETCH_SECONDS="300")
        until(
            lambda: (
                in_hand(engine)
                == int(str(one(engine, "SELECT sum(in_flight) FROM reelvec.workers") or -1))
            )
        )
        started = time.monotonic()
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
            worker.process.send_signal(number)
        assert worker.process.wait(timeout=60) == 0, "and not 75, the hard limit"
        print(f"drained in {time.monotonic() - started:.1f} s")
    assert_all_is_handed_back(engine)
    assert "Traceback" not in worker.log()
    with redis.Redis.from_url(broker_url) as client:
        assert client.llen("reelvec:reelvec") + client.hlen("reelvec:unacked") <= 12, (
            "nothing was published twice"
        )


def test_an_interrupted_command_says_so_and_nothing_else(desk: Desk) -> None:
    script = Path(sys.executable).with_name("enqueue")
    process = subprocess.Popen(
        [script, "-", "--backbone", "probe"],
        env={**desk.environment, "PYTHONFAULTHANDLER": "1"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    until(lambda: b"broker" in os.read(process.stderr.fileno(), 4096))
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # says where it was
    assert (process.communicate()[1], process.returncode) == (b"interrupted\n", 130)


def test_an_interrupt_that_falls_into_a_callback_is_heard_all_the_same() -> None:
    """Python drops what is raised there, and the command would wait on."""
    code = """
import signal, time, weakref
from producer import cli
def command():
    thing = type("Thing", (), {})()
    callback = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(60)
cli._run(command)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (130, b"interrupted\n")
