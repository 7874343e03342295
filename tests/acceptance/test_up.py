"""`reelvec up`: a stack of one's own, found again by every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Desk, clean_environment

STARTED = "started the local servers in "


@pytest.fixture
def own(reachable: Path, tmp_path: Path) -> Iterator[Desk]:
    """No addresses, a data folder of its own."""
    made = Desk({**clean_environment(), "REELVEC_DATA_DIR": str(reachable / "own")}, tmp_path)
    yield made
    made.run("reelvec", "up", "--stop")


def test_up_then_everything_finds_it_also_after_a_stop(own: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    for _ in range(2):
        told = own.run("reelvec", "up").stderr
        assert "***" in told, "no password on the terminal"
    queued = own.run("enqueue", "a.mp4", "--backbone", "probe", "--json")
    assert json.loads(queued.stdout)["queued"] == 1
    assert "(local stack)" in queued.stderr
    assert STARTED not in queued.stderr, "they ran"
    own.run("reelvec", "up", "--stop")
    again = own.run("enqueue", "a.mp4", "--backbone", "probe", "--json")
    assert json.loads(again.stdout)["already_waiting"] == 1, (
        "started again by itself, nothing forgotten"
    )
    assert again.stderr.splitlines()[0].startswith(STARTED)
    own.run("reelvec", "up", "--stop")
    url = own.run("reelvec", "db", "url")
    assert url.stderr.splitlines()[0].startswith(STARTED)
    assert url.stdout.startswith("postgresql://")
    assert own.run("reelvec", "status", expect=1).stdout.startswith("STALLED  1 waiting")


def test_the_users_own_addresses_win(own: Desk, database_url: str, broker_url: str) -> None:
    own.run("reelvec", "up")
    told = own.run("reelvec", "status", DATABASE_URL=database_url, CELERY_BROKER_URL=broker_url)
    assert "(local stack)" not in told.stderr
