"""Claims and finishes are planned once for each connection, and a pooler between is no obstacle."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db import prepared, session
from db.errors import BusyError
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Outcome
from db.prepared import Prepared
from tests.ledgering import Row, claim, declare, execute, finish, record, vectors, worker

PLANS = (
    "SELECT name, generic_plans + custom_plans, prepare_time FROM pg_prepared_statements ORDER BY 1"
)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has met is not known to the next."""
    monkeypatch.setattr(Prepared, "serves", True)


@pytest.fixture
def one_session(database_url: str) -> Iterator[Engine]:
    with session.connect(database_url, pool_size=1) as engine:
        yield engine


@pytest.fixture
def me(one_session: Engine) -> UUID:
    probe = declare(one_session)
    record(one_session, [Row(f"file:///v{number}") for number in range(4)], Wanted((probe,), ()))
    return worker(one_session)


def plans(engine: Engine) -> list[tuple[str, int, Any]]:
    """What the one session was told: name, how often it was run, since when."""
    with session.transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(text(PLANS))]


def worked(engine: Engine, me: UUID, video_id: int) -> str | None:
    claimed = claim(engine, video_id, me)
    assert claimed is not None
    return finish(engine, claimed, Outcome(tuple(map(vectors, claimed.encoders))))


def test_two_statements_are_planned_for_any_number_of_videos(
    one_session: Engine, me: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [worked(one_session, me, video_id) for video_id in (1, 2)] == ["done", "done"]
    first = plans(one_session)
    assert [(name.rsplit("_", 1)[0], runs) for name, runs, _ in first] == [
        ("reelvec_claim", 2),
        ("reelvec_finish", 2),
    ]
    monkeypatch.setattr(prepared, "FRESH_SECONDS", 0.0)
    assert worked(one_session, me, 3) == "done"
    again = plans(one_session)
    assert [(name, runs) for name, runs, _ in again] == [(name, 1) for name, _, _ in first]
    assert all(new[2] > old[2] for new, old in zip(again, first, strict=True))


def test_a_session_that_has_forgotten_is_told_nothing_any_more(
    one_session: Engine, me: UUID
) -> None:
    """As behind a pooler that looks like Postgres itself: one try fails, the next ones do not."""
    assert worked(one_session, me, 1) == "done"
    execute(one_session, "DEALLOCATE ALL")
    with pytest.raises(BusyError, match="does not know a statement") as caught:
        worked(one_session, me, 2)
    asked = caught.value.__cause__
    assert isinstance(asked, DBAPIError)
    assert "UPDATE reelvec.jobs" in str(asked.statement)
    assert worked(one_session, me, 2) == "done"
    assert plans(one_session) == []


def test_behind_another_session_than_was_promised_statements_are_sent_in_full() -> None:
    sent: list[str] = []

    class Pooled:
        """A connection of a pooler, which counts its clients in its own way."""

        def __init__(self) -> None:
            self.info: dict[str, Any] = {}
            driver = SimpleNamespace(info=SimpleNamespace(backend_pid=1))
            self.connection = SimpleNamespace(driver_connection=driver)

        def execute(self, statement: object, _: object = None) -> Any:
            sent.append(str(statement))
            return SimpleNamespace(scalar_one=lambda: 2)

    pooled: Any = Pooled()
    statement = Prepared("told", "SELECT :a::int + :b")
    for _ in range(2):
        statement.execute(pooled, {"a": 1, "b": 2})
    assert sent == ["SELECT pg_backend_pid()", *["SELECT :a::int + :b"] * 2]
