"""A disk that is full for real: Postgres and the broker keep their data on a small filesystem, which
somebody else fills while every slot is taken.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tests import fleet as fleets
from tests import verdict
from tests.fleet import Fleet
from tests.footage import Footage
from tests.servers import Servers

DISK_BYTES = 768 << 20
FULL_SECONDS = 8.0
TIMES = 3
#: What fails on a full disk: new rows, or new segments of the log. There are fewer than so many.
NEEDS_ROWS = "CREATE TABLE IF NOT EXISTS ballast AS SELECT generate_series(1, 5000000)"
NEEDS_LOG = "SELECT pg_switch_wal() FROM (SELECT txid_current()) written"
SEGMENTS = 200


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A filesystem of its own in memory. Skips where none may be mounted."""
    folder.mkdir(mode=0o755)
    size = f"size={DISK_BYTES},mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", size, "reelvec-full-disk", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no filesystem may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on this disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    try:
        assert os.statvfs(disk).f_bavail == 0
        yield
    finally:
        ballast.unlink()


@pytest.fixture(params=[1, 3], ids=lambda size: f"{size} workers")
def struck(reachable: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Fleet, Path]]:
    folder = reachable / f"full{request.param}"
    folder.mkdir(mode=0o755)
    with (
        small_disk(folder / "disk") as disk,
        Servers.started(disk) as servers,
        Footage.made(folder) as footage,
        fleets.running(servers, footage, folder / "fleet", size=request.param) as fleet,
    ):
        yield fleet, disk


@pytest.mark.timeout(900)
def test_a_full_disk_costs_nothing_but_time(struck: tuple[Fleet, Path]) -> None:
    """Rows cannot be added at first; then there is no room for the write-ahead log either, and
    Postgres breaks down.
    """
    fleet, disk = struck
    for statement in [NEEDS_ROWS] * TIMES + [NEEDS_LOG] * TIMES:
        fleet.supply()
        fleet.wait_until_busy()
        with filled(disk):
            with pytest.raises(DBAPIError):
                ask_for_room(fleet.servers, statement)
            time.sleep(FULL_SECONDS)
        back = time.time()
        fleet.servers.up()
        seconds, stuck = fleet.recover(back, seconds=60)
        found = verdict.judge(fleet, seconds=120)
        print(f"{fleet.size} workers, {statement}: back after {seconds:.1f} s; {found}")
        assert not stuck
        assert found.holds
    assert set(fleet.ended) <= {69, 70}, "what may end itself is started again"


def ask_for_room(servers: Servers, statement: str) -> None:
    with servers.administration() as run:
        for _ in range(SEGMENTS):
            run(statement)
