"""The broker dies again and again while all slots are taken. Prints how long each worker's way back
to work took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Engine

from db.stack.local_stack import LocalStack
from tests import broker_faults
from tests.broker_faults import ALLOWED, Broker, FullHouse, Gate
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import small_clips
from tests.http_server import serving

TIMES = 10
FROZEN_SECONDS = 30.0
FAULTS = (
    broker_faults.killed_and_wiped,
    broker_faults.killed_with_its_data_kept,
    broker_faults.restarted,
    broker_faults.frozen,
)
#: As a fleet has them, not at 1/20 as tests do.
DEFAULTS = {
    "REELVEC_BEAT_SECONDS": "10",
}


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("intervals", [{}, DEFAULTS], ids=["a 20th", "defaults"])
def test_every_worker_comes_back(
    desk: Desk,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    local: LocalStack,
    broker_url: str,
    workers: int,
    intervals: dict[str, str],
) -> None:
    times = 1 if intervals else TIMES
    places = broker_faults.PLACES * workers
    clips = small_clips(desk.folder / "clips", places * (len(FAULTS) * times + 2))
    gate = Gate()
    with serving(bend=gate.bend) as web:
        started = [start_worker(**ALLOWED, **intervals) for _ in range(workers)]
        house = FullHouse(desk, started, engine, Broker(local, broker_url), gate, web)
        house.enqueue(clips)
        for fault in FAULTS:
            away = partial(time.sleep, FROZEN_SECONDS if fault is broker_faults.frozen else 1.0)
            seconds = [house.strike(fault, away) for _ in range(times)]
            shown = " ".join(f"{second:.1f}" for second in seconds)
            print(f"{workers} workers, {fault.__name__}: back after {shown} s")
        house.finish(clips)
