"""The broker dies in every way while all places are taken: nothing is lost, and every worker goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from db.local_stack import LocalStack
from tests import broker_faults
from tests.broker_faults import Broker, Fault, Gate, strike, until
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import assert_nothing_lost_nothing_doubled, probe_vectors, small_clips
from tests.http_server import WebServer, serving
from tests.ledgering import one

#: Of one worker with one sampler.
PLACES = 3
FAULTS: list[Fault] = [
    broker_faults.killed_and_wiped,
    broker_faults.killed_with_its_data_kept,
    broker_faults.restarted,
    broker_faults.frozen,
    broker_faults.clients_killed,
    broker_faults.flushed,
    broker_faults.full,
]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def web(gate: Gate) -> Iterator[WebServer]:
    with serving(bend=gate.bend) as made:
        yield made


def test_faults_of_the_broker_with_all_places_taken(
    desk: Desk,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    local: LocalStack,
    broker_url: str,
    gate: Gate,
    web: WebServer,
    tmp_path: Path,
) -> None:
    clips = small_clips(tmp_path / "clips", PLACES * (len(FAULTS) + 2))
    web.files = {f"/{clip.name}": clip.read_bytes() for clip in clips}
    (tmp_path / "list.txt").write_text("".join(f"{web.url(path)}\n" for path in web.files))
    worker = start_worker(REELVEC_HTTP_ALLOW_PRIVATE="true", REELVEC_FETCH_SECONDS="100")
    desk.run("enqueue", "list.txt", "--backbone", "probe", REELVEC_HTTP_ALLOW_PRIVATE="true")

    def finished() -> int:
        return int(str(one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")))

    def noticed() -> None:
        """It was frozen for long enough when the worker says so."""
        if fault in (broker_faults.frozen, broker_faults.full):
            until(lambda: "the broker does not answer" in worker.log()[said:])

    for fault in FAULTS:
        said = len(worker.log())
        strike(fault, Broker(local, broker_url), gate, places=PLACES, finished=finished, away=noticed)
        assert worker.process.poll() is None, fault
    gate.open()
    desk.run("enqueue", "list.txt", "--backbone", "probe", "--wait", REELVEC_HTTP_ALLOW_PRIVATE="true")
    assert worker.stop() == 0
    golden = {
        web.url(f"/{clip.name}"): vector for clip, vector in zip(clips, probe_vectors(clips).values(), strict=True)
    }
    assert_nothing_lost_nothing_doubled(engine, broker_url, golden)
    assert "Traceback" not in worker.log()
    assert one(engine, "SELECT max(token) FROM reelvec.jobs") == 1, "nothing was run twice"


#: Takes two messages on each of its first two connections, and none on later ones.
DEAF = """
from workers import transport
from workers.app import app

class Deaf(transport.QoS):
    made = 0

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        Deaf.made += 1
        self.left = 2 if Deaf.made <= 2 else 0

    def append(self, message, delivery_tag):
        super().append(message, delivery_tag)
        self.left -= 1

    def can_consume(self):
        return self.left > 0 and super().can_consume()

transport.QoS = Deaf
"""


def test_a_worker_whose_transport_goes_deaf_connects_again_and_then_ends(
    desk: Desk, start_worker: Callable[..., WorkerProcess], engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    small_clips(tmp_path / "clips", 6)
    desk.run("enqueue", "clips", "--backbone", "probe")
    worker = start_worker(app="deaf", REELVEC_IDLE_SECONDS="2")
    assert worker.process.wait(timeout=100) == 70
    assert worker.log().count("connecting again") == 2, worker.log()
    assert "messages wait, places are free, and none was taken" in worker.log()
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'") == 4
