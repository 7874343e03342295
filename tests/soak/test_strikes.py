"""Every strike that `tests/fault/test_strikes.py` leaves out, once, on a fleet of two workers that
start as users start them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fleet as fleets
from tests import verdict
from tests.fault.test_strikes import SHORT
from tests.fleet import Fleet
from tests.footage import Footage
from tests.servers import Servers
from tests.strikes import STRIKES, Strike


@pytest.fixture(scope="module")
def fleet(reachable: Path) -> Iterator[Fleet]:
    folder = reachable / "strikes"
    folder.mkdir(mode=0o755)
    with (
        Servers.started(folder) as servers,
        Footage.made(folder) as footage,
        fleets.running(servers, footage, folder / "fleet", size=2) as made,
    ):
        yield made


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "strike",
    [strike for name, strike in STRIKES.items() if name not in SHORT],
    ids=lambda strike: strike.name,
)
def test_every_worker_works_on(fleet: Fleet, strike: Strike) -> None:
    verdict.assert_survives(fleet, strike)
