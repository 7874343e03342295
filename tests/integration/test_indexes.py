"""`reelvec db index`: made once, found whoever made it, left alone while another builds, and gone on
with after a build that was broken off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text
from typer.testing import CliRunner

from db import session
from db.administration import indexes, server_facts
from db.administration.indexes import Index, Resources
from db.administration.server_facts import Builder
from db.errors import BusyError, UsageError
from producer.cli import reelvec
from producer.doctor import postgres
from tests.ledgering import execute, one, read
from tests.vectors import bound, filled, filled_windows, index

GIVEN = Resources(64 << 20, 0)
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('reelvec.video_embeddings_hnsw_1')"


@pytest.fixture
def run(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """`reelvec db index` in this process; what it says as JSON."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)

    def invoke(*arguments: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(reelvec, ["db", "index", *arguments, "--json"])
        if result.exception:
            raise result.exception
        told.append(result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]

    told: list[str] = []
    invoke.told = told  # type: ignore[attr-defined]
    return invoke


def library(engine: Engine, name: str = "vivit") -> np.ndarray:
    encoder = bound(engine, name, 4)
    windows = np.random.default_rng(5).standard_normal((200, 2, 4)).astype(np.float32)
    filled(engine, encoder, windows.mean(axis=1))
    filled_windows(engine, encoder, windows)
    return windows


def found(engine: Engine, **chosen: bool) -> dict[str, Index]:
    return {one.table: one for one in read(engine, lambda c: indexes.find(c, **chosen))}


def test_every_index_is_made_once_and_used(
    engine: Engine, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(engine)
    first = run("--windows")
    assert [(made["table"], made["name"], made["vectors"]) for made in first] == [
        ("video_embeddings", "video_embeddings_hnsw_1", 200),
        ("window_embeddings", "window_embeddings_hnsw_1", 400),
    ]
    assert all(made["seconds"] is not None and made["size_bytes"] > 0 for made in first)
    assert "vivit: an index of 200 vectors, with " in run.told[0]
    assert "maintenance_work_mem and " in run.told[0]
    again = run("--windows", "vivit")
    assert [made["seconds"] for made in again] == [None, None], "twice changes nothing"
    assert "cache" not in run.told[-1]
    seen = read(engine, server_facts.builder)
    small = replace(seen, shared_buffers_bytes=again[0]["size_bytes"] - 1)
    monkeypatch.setattr(server_facts, "builder", lambda _: small)
    run("vivit")
    assert "run ALTER SYSTEM SET shared_buffers and restart it" in run.told[-1]
    with session.transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        connection.exec_driver_sql(
            "SELECT reelvec.nearest(1, 'vivit'), reelvec.nearest_windows(1, 0, 'vivit')"
        )
        for name in ("video_embeddings_hnsw_1", "window_embeddings_hnsw_1"):
            scans = f"SELECT pg_stat_get_xact_numscans('reelvec.{name}'::regclass)"
            assert connection.exec_driver_sql(scans).scalar() == 1


def test_one_made_by_hand_counts_and_what_was_broken_off_goes(engine: Engine, run: Any) -> None:
    library(engine)
    index(engine, read(engine, _encoder))
    assert [made["name"] for made in run()] == ["by_vector"]
    execute(
        engine,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'reelvec.by_vector'::regclass",
    )
    assert found(engine)["video_embeddings"].broken == ("by_vector",)
    (made,) = run("vivit")
    assert (made["name"], made["seconds"] is None) == ("video_embeddings_hnsw_1", False)
    assert "by_vector, which a broken-off build has left, is dropped" in run.told[-1]
    assert one(engine, "SELECT to_regclass('reelvec.by_vector')") is None
    assert one(engine, VALID) is True


def _encoder(connection: Connection) -> Any:
    from db import encoders

    return encoders.known_encoder(connection, "vivit")


def test_an_interrupt_ends_the_build_on_the_server_and_the_next_run_goes_on(
    engine: Engine, run: Any
) -> None:
    library(engine)
    with engine.connect() as writing:  # whoever has written is waited for, so nothing can be ready
        writing.execute(text("DELETE FROM reelvec.video_embeddings WHERE video_id = 1"))

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            indexes.build(engine, found(engine)["video_embeddings"], GIVEN, watch=interrupt)
    assert one(engine, VALID) is False
    assert one(engine, "SELECT count(*) FROM pg_stat_progress_create_index") == 0
    assert run()[0]["seconds"] is not None
    assert one(engine, VALID) is True


def test_while_another_builds_nothing_is_begun_and_a_name_without_vectors_is_told(
    engine: Engine, run: Any
) -> None:
    library(engine)
    bound(engine, "x-clip", 4)
    with session.transaction(engine) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": indexes.LOCK_KEY})
        with pytest.raises(BusyError, match="run this again when it is"):
            run()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": indexes.LOCK_KEY})
    for name in ("x-clip", "vivvit"):
        with pytest.raises(UsageError, match=f"{name} has no vectors.*there are vectors of vivit"):
            run(name)


def test_little_shared_memory_is_no_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose /dev/shm is small: Postgres refuses to build with several processes."""
    library(engine)
    asked = []
    execute_sql = Connection.exec_driver_sql

    def refusing(connection: Connection, statement: str, *rest: Any) -> Any:
        if "CREATE INDEX" in statement:
            asked.append(
                connection.exec_driver_sql("SHOW max_parallel_maintenance_workers").scalar()
            )
            if asked[-1] != "0":
                execute_sql(
                    connection, "DO $$BEGIN RAISE 'could not resize shared memory segment'; END$$"
                )
        return execute_sql(connection, statement, *rest)

    monkeypatch.setattr(Connection, "exec_driver_sql", refusing)
    indexes.build(
        engine, found(engine)["video_embeddings"], Resources(64 << 20, 1), watch=lambda _: None
    )
    assert asked == ["1", "0"]
    assert one(engine, VALID) is True


MB = 1 << 20
BUILDER = Builder(None, None, 128 * MB, 64 * MB, maintenance_workers=2, parallel_workers=8)


@pytest.mark.parametrize(
    ("builder", "vectors", "memory", "workers"),
    [
        (BUILDER, 1_000, 64 * MB, 2),  # what it is set to is enough
        (BUILDER, 1_000_000, 128 * MB, 2),  # nobody can see more than its cache
        (Builder(4, 8 << 30, 128 * MB, 64 * MB, 2, 8), 1_000_000, 2_536_000_000, 3),
        (Builder(16, 2 << 30, 128 * MB, 64 * MB, 2, 8), 1_000_000, 1 << 30, 8),
        (Builder(1, 64 * MB, 128 * MB, 256 * MB, 2, 8), 1_000_000, 256 * MB, 0),
    ],
)
def test_a_build_gets_what_the_server_can_have(
    builder: Builder, vectors: int, memory: int, workers: int
) -> None:
    one_index = Index("vivit", "video_embeddings", 1, 768, vectors, "i", is_there=False)
    assert indexes.resources(one_index, builder) == Resources(memory, workers)


def test_the_doctor_names_what_is_worth_an_index(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(engine)
    assert read(engine, indexes.unindexed) == []
    monkeypatch.setattr(indexes, "WORTH_VECTORS", 199)
    (missing,) = read(engine, indexes.unindexed)
    (finding,) = postgres.judge_indexes([missing])
    assert finding.fact.startswith("more than 199 vectors of vivit have no index")
    assert finding.advice == "run reelvec db index vivit when the big job is done"
    index(engine, read(engine, _encoder))
    assert read(engine, indexes.unindexed) == []
    facts = read(engine, server_facts.builder)
    assert facts.maintenance_bytes >= 1 << 20
