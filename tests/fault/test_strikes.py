"""A short form of the fault matrix: one fleet is struck again and again, and every time every
worker must work on.

All other strikes, once each: `tests/soak/test_strikes.py`. All of them, ten times each, with one
and three workers: `python -m bench.faults`. At random for as long as one likes: `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.stack.local_stack import LocalStack
from db.stack.server_process import wait_until
from tests import fleet as fleets
from tests import verdict
from tests.fleet import Fleet
from tests.footage import Footage
from tests.servers import Servers
from tests.strikes import STRIKES

#: Of workers and messages one that no other test of this folder has (`test_broker.py` kills, wipes
#: and freezes the broker, `test_lifecycle.py` drains, `test_isolation.py` kills samplers,
#: `test_database.py` cuts commits), and on each hop the one that is hardest to notice.
SHORT = (
    "worker-kill",
    "messages-garbage",
    "broker-half-open",
    "postgres-half-open",
)


#: Longer than elsewhere: while a fleet recovers it works on, and every video costs CPU.
SOURCE_SECONDS = 0.6


@pytest.fixture
def fleet(local: LocalStack, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Two workers; `broker_url` is there because it empties the broker."""
    with (
        Servers.on(local, database_url) as servers,
        Footage.made(tmp_path) as footage,
        fleets.running(
            servers,
            footage,
            tmp_path / "fleet",
            size=2,
            forked=True,
            source_seconds=SOURCE_SECONDS,
        ) as made,
    ):
        yield made


@pytest.mark.timeout(300)
def test_every_worker_works_on_after_every_strike(fleet: Fleet) -> None:
    for name in SHORT:
        verdict.assert_survives(fleet, STRIKES[name])
    assert fleet.stop() == [0, 0]
    said = fleet.said()
    assert "dropped a message that is not ours" in said
    assert "Traceback" not in said
    assert wait_until(lambda: not verdict.stray_processes(fleet.folder), 20), (
        "nothing is left running"
    )
