"""A worker that starts while Postgres is busy waits as long for it as for any statement."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from db import session
from workers.heartbeat import Heartbeat


def test_only_later_beats_are_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Heartbeat, "_beat", lambda _, database: asked.append(database))
    heartbeat = Heartbeat.__new__(Heartbeat)
    heartbeat._runtime = SimpleNamespace(database="patient", beating="hurried", heart=())  # type: ignore[assignment]
    heartbeat.start()
    heartbeat.beat()
    assert asked == ["patient", "hurried"]


def test_a_pool_asks_nobody_before_it_is_used() -> None:
    with session.pool("postgresql+psycopg2://nobody@127.0.0.1:1/nothing") as engine:
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
