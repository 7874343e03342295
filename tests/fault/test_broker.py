"""The broker dies in every way while all slots are taken: nothing is lost, and every worker goes
on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from db.stack.local_stack import LocalStack
from tests import broker_faults
from tests.broker_faults import ALLOWED, PLACES, Broker, Fault, FullHouse, Gate, until
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import small_clips
from tests.http_server import serving
from tests.ledgering import one

FAULTS: list[Fault] = [
    broker_faults.killed_and_wiped,
    broker_faults.killed_with_its_data_kept,
    broker_faults.restarted,
    broker_faults.clients_killed,
    broker_faults.flushed,
    broker_faults.full,
]


def test_faults_of_the_broker_with_all_places_taken(
    desk: Desk,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    local: LocalStack,
    broker_url: str,
) -> None:
    clips = small_clips(desk.folder / "clips", PLACES * (len(FAULTS) + 3))
    gate = Gate()
    with serving(bend=gate.bend) as web:
        worker = start_worker(**ALLOWED)
        house = FullHouse(desk, [worker], engine, Broker(local, broker_url), gate, web)
        house.enqueue(clips)
        for fault in FAULTS:
            house.strike(fault)
        said = len(worker.log())
        house.strike(
            broker_faults.frozen,
            away=lambda: until(lambda: "the broker does not answer" in worker.log()[said:]),
        )
        house.finish(clips)


#: Takes two messages on each of its first two connections, and none on later ones.
DEAF = """
from workers.delivery import transport
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
    worker = start_worker(app="deaf")
    assert worker.process.wait(timeout=100) == 70
    assert worker.log().count("connecting again") == 2, worker.log()
    assert "messages wait, slots are free, and none was taken" in worker.log()
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'") == 4
