"""Kill anything: every video is embedded once, with its own vector, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import redis
from sqlalchemy import Engine

from db.local_stack import LocalStack, StackState
from tests.conftest import FAST, Desk, WorkerProcess
from tests.garbage import FORGED, GARBAGE
from tests.golden_run import assert_nothing_lost_nothing_doubled, probe_vectors, small_clips
from tests.ledgering import one

Start = Callable[..., WorkerProcess]
Golden = dict[str, npt.NDArray[np.float32]]

#: Enough that two workers share them; each is a clip of its own, and is computed once more to compare.
VIDEOS = 100
#: Where the fault is the point, not the number.
FEW, FEW_VIDEOS = ("--match", "0[0-5]?.mp4"), 60


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clips(tmp_path_factory.mktemp("clips") / "videos", VIDEOS)[0].parent


@pytest.fixture(scope="module")
def golden(clips: Path) -> Golden:
    return probe_vectors(sorted(clips.iterdir()))


@pytest.fixture(scope="module")
def golden_few(golden: Golden) -> Golden:
    return dict(sorted(golden.items())[:FEW_VIDEOS])


@pytest.fixture
def enqueue(desk: Desk, clips: Path) -> Callable[..., str]:
    def run(*arguments: str, expect: int = 0) -> str:
        return desk.run("enqueue", str(clips), "--backbone", "probe", *arguments, expect=expect).stderr

    return run


@pytest.fixture
def start(start_worker: Start, clips: Path) -> Start:
    return lambda **variables: start_worker(REELVEC_FILE_ROOTS=str(clips), **variables)


def done(engine: Engine) -> int:
    return int(str(one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")))


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.05)


def test_two_workers_on_one_queue(
    enqueue: Callable[..., str], start: Start, engine: Engine, broker_url: str, golden: Golden
) -> None:
    workers = [start(), start()]
    enqueue("--wait")
    assert [worker.stop() for worker in workers] == [0, 0]
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden)
    assert one(engine, "SELECT count(DISTINCT worker_id) FROM reelvec.embeddings") == 2, "both have worked"
    assert one(engine, "SELECT max(attempts) FROM reelvec.jobs") == 1, "none was run twice"
    assert one(engine, "SELECT count(*) FROM reelvec.workers") == 0, "both have said goodbye"


def test_kill_9_of_a_worker_in_mid_run(
    enqueue: Callable[..., str], start: Start, engine: Engine, broker_url: str, golden_few: Golden
) -> None:
    start()
    victim = start()
    enqueue(*FEW)
    until(lambda: done(engine) >= 10)
    children = psutil.Process(victim.process.pid).children()
    victim.kill()
    enqueue(*FEW, "--wait")
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)
    until(lambda: not any(child.is_running() for child in children))


def test_kill_9_of_the_broker_with_its_data_gone(
    enqueue: Callable[..., str],
    start: Start,
    engine: Engine,
    stack: StackState,
    local: LocalStack,
    broker_url: str,
    golden_few: Golden,
) -> None:
    worker = start()
    enqueue(*FEW)
    until(lambda: done(engine) >= 10)
    with redis.Redis.from_url(broker_url) as client:
        assert client.llen("reelvec:reelvec") > 0, "messages will be lost"
    current = local.state()
    assert current is not None
    os.kill(current.broker_pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(current.broker_pid) or local.state() is None)
    assert local.up().broker_port == stack.broker_port
    enqueue(*FEW, "--wait")
    assert worker.stop() == 0
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)


def test_kill_9_of_postgres_in_mid_run(
    enqueue: Callable[..., str],
    start: Start,
    engine: Engine,
    local: LocalStack,
    broker_url: str,
    golden_few: Golden,
) -> None:
    worker = start()
    enqueue(*FEW)
    until(lambda: done(engine) >= 10)
    current = local.state()
    assert current is not None
    os.kill(current.postgres_pid, signal.SIGKILL)
    until(lambda: "does not answer" in worker.log())
    assert local.up().postgres_port == current.postgres_port
    engine.dispose()
    enqueue(*FEW, "--wait")
    assert worker.stop() == 0
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)
    assert "Traceback" not in worker.log()


def test_sigterm_drains(
    enqueue: Callable[..., str], start: Start, engine: Engine, broker_url: str, golden_few: Golden
) -> None:
    worker = start()
    enqueue(*FEW)
    until(lambda: done(engine) >= 10)
    assert worker.stop() == 0
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state NOT IN ('done', 'queued', 'pending')") == 0
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state <> 'done' AND attempts > 0") == 0, (
        "no attempt burnt"
    )
    assert done(engine) < FEW_VIDEOS, "it stopped in the middle"
    start()
    enqueue(*FEW, "--wait")
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)


def test_a_worker_that_slept_through_its_own_death_is_fenced(
    enqueue: Callable[..., str], start: Start, engine: Engine, broker_url: str, golden_few: Golden
) -> None:
    sleeper = start()
    enqueue(*FEW)
    until(lambda: done(engine) >= 10)
    sleeper.process.send_signal(signal.SIGSTOP)
    start()
    until(lambda: one(engine, "SELECT count(*) FROM reelvec.jobs WHERE lost_count > 0") != 0)
    until(lambda: done(engine) == FEW_VIDEOS)
    sleeper.process.send_signal(signal.SIGCONT)
    until(lambda: "fenced" in sleeper.log())
    assert sleeper.stop() == 0
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)


def test_forged_and_doubled_messages_change_nothing(
    enqueue: Callable[..., str], start: Start, engine: Engine, broker_url: str, golden_few: Golden
) -> None:
    enqueue(*FEW)
    with redis.Redis.from_url(broker_url) as client:
        messages = client.lrange("reelvec:reelvec", 0, -1)
        for message in messages[:20]:
            client.lpush("reelvec:reelvec", message)
        client.rpush("reelvec:reelvec", *GARBAGE.values(), *FORGED.values())  # to be taken first
    worker = start()
    enqueue(*FEW, "--wait")
    with redis.Redis.from_url(broker_url) as client:
        until(lambda: client.llen("reelvec:reelvec") == 0)
    assert worker.stop() == 0
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden_few)
    assert one(engine, "SELECT max(token) FROM reelvec.jobs") == 1, "a doubled message runs nothing"
    assert "dropped a message that is not ours" in worker.log()
    assert "onnection" not in worker.log().partition("dropped")[2], "it kept its connection"
    assert "Traceback" not in worker.log()


def test_the_supervisor_starts_a_dead_worker_again_and_stops_with_it(
    desk: Desk, enqueue: Callable[..., str], engine: Engine, clips: Path, tmp_path: Path
) -> None:
    environment = {**desk.environment, **FAST, "REELVEC_FILE_ROOTS": str(clips), "REELVEC_SAMPLERS": "2"}
    script = Path(sys.executable).with_name("reelvec")
    with (tmp_path / "supervisor.log").open("wb") as log:
        supervisor = psutil.Popen([script, "worker", "--gpus", "none"], env=environment, stdout=log, stderr=log)
    try:
        enqueue(*FEW)
        until(lambda: done(engine) >= 5)
        supervisor.children()[0].kill()
        enqueue(*FEW, "--wait")
        shape = "SELECT DISTINCT (device, samplers, videos_per_batch, in_flight)::text FROM reelvec.workers"
        assert one(engine, shape) == "(cpu,2,1,5)"
        supervisor.terminate()
        assert supervisor.wait(timeout=40) == 0
    finally:
        if supervisor.is_running():
            for child in [*supervisor.children(), supervisor]:
                child.kill()
    log_text = (tmp_path / "supervisor.log").read_text()
    assert "ready on cpu: 2 samplers (REELVEC_SAMPLERS), 5 videos in flight, batches of 1 video" in log_text
    assert "starting it again" in log_text
