"""What an operator does to the ledger, and the record each step leaves."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine

from db import session
from db.jobs import steering
from db.jobs.selection import Selection
from tests.ledgering import ago, execute, one, read, set_jobs, state_of, ten_videos

ME = {"who": "ann@desk", "what": "--error truncated"}


def retry(engine: Engine, chosen: Selection) -> int:
    return read(engine, lambda connection: steering.retry(connection, chosen, **ME))


def cancel(engine: Engine, chosen: Selection) -> int:
    found = read(engine, lambda connection: steering.cancel(connection, chosen, **ME))
    assert found.done == 0
    return found.cancelled


def records(engine: Engine) -> list[tuple[str, str, str, int | None]]:
    found = read(engine, lambda connection: steering.latest(connection, limit=9))
    return [(record.who, record.action, record.what, record.videos) for record in found]


def test_retry_takes_what_was_selected_and_gives_fresh_attempts(engine: Engine) -> None:
    ten_videos(engine)
    facts = {"error_code": "'truncated'", "attempts": "8", "strikes": "2", "not_before": ago(-60)}
    set_jobs(engine, "1,2,4", state="'failed'", finished_at=ago(60), infra_since=ago(9), **facts)
    set_jobs(engine, "2", finished_at=ago(7200))
    set_jobs(engine, "3", state="'done'", finished_at=ago(60))
    assert (
        retry(
            engine, Selection(categories=("films",), codes=("truncated",), since=timedelta(hours=1))
        )
        == 1
    )
    assert [state_of(engine, video) for video in (1, 2, 3, 4)] == [
        "pending",
        "failed",
        "done",
        "failed",
    ]
    fresh = "(attempts, strikes, not_before, error_code, error, infra_since, finished_at)::text"
    assert one(engine, f"SELECT {fresh} FROM reelvec.jobs WHERE video_id = 1") == "(0,0,,,,,)"
    assert retry(engine, Selection()) == 2
    assert records(engine) == [
        ("ann@desk", "retry", "--error truncated", count) for count in (2, 1)
    ], "latest first"


def test_cancel_takes_only_what_waits(engine: Engine) -> None:
    ten_videos(engine)
    set_jobs(engine, "1,2", error_code="'no_bucket'", infra_since=ago(9))
    set_jobs(engine, "2", state="'running'")
    set_jobs(engine, "6,7", enqueued_at=ago(7200))
    set_jobs(engine, "8", state="'queued'")
    assert cancel(engine, Selection(codes=("no_bucket",))) == 1
    assert one(engine, "SELECT infra_since FROM reelvec.jobs WHERE video_id = 1") is None, (
        "should it be enqueued again"
    )
    assert cancel(engine, Selection(uri_prefix="file:///v/", since=timedelta(hours=1))) == 3
    states = [state_of(engine, video) for video in range(1, 11)]
    assert states == ["cancelled", "running", *["pending"] * 5, *["cancelled"] * 3]
    assert records(engine)[0] == ("ann@desk", "cancel", "--error truncated", 3)


def test_what_is_rolled_back_leaves_no_record(engine: Engine) -> None:
    ten_videos(engine)
    with engine.connect() as connection:
        assert steering.cancel(connection, Selection(), **ME).cancelled == 10
        connection.rollback()
    assert records(engine) == []
    assert state_of(engine, 1) == "pending"


PAUSED = (
    "SELECT (SELECT bool_or(paused) FROM reelvec.control)::text || ' ' || (SELECT "
    "string_agg(backbone || ' ' || paused, ', ' ORDER BY backbone) FROM reelvec.paused_backbones)"
)


def test_pause_and_resume(engine: Engine) -> None:
    """One backbone goes on alone; a resume without names takes in what the breaker has paused, and
    rows stay.
    """
    with session.transaction(engine) as connection:
        steering.pause(connection, reason="moving", **ME)
        steering.pause_backbones(connection, ["vivit", "x-clip"], reason="trying", **ME)
        steering.pause_backbones(connection, ["vivit"], reason="again", **ME)
        assert steering.freed_seconds(connection) is None, "a pause frees nothing"
        assert steering.resume(connection, backbones=["x-clip", "probe"], **ME) == ["x-clip"]
    assert one(engine, PAUSED) == "true vivit true, x-clip false"
    assert (
        one(engine, "SELECT reason FROM reelvec.paused_backbones WHERE backbone = 'vivit'")
        == "again"
    )
    execute(
        engine,
        "INSERT INTO reelvec.control (name, paused, reason) VALUES ('breaker', true, 'keys')",
    )
    with session.transaction(engine) as connection:
        assert steering.resume(connection, backbones=[], **ME) == ["vivit"]
        assert steering.freed_seconds(connection) == 0.0
    assert one(engine, PAUSED) == "false vivit false, x-clip false"
    assert [record[1] for record in records(engine)] == [
        "resume",
        "resume",
        "pause",
        "pause",
        "pause",
    ]
