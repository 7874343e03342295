"""Counting all jobs: what waits for what, and counts that several share."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from sqlalchemy import Engine, text

from db import session
from db.progress import census, shared_census
from db.progress.census import ALL, NO_CATEGORY, Census, Group, Progress, Waiting
from tests.ledgering import ago, execute, one, read, set_jobs, ten_videos

pytestmark = pytest.mark.usefixtures("videos")


@pytest.fixture
def videos(engine: Engine) -> None:
    ten_videos(engine)


def test_progress_agrees_with_the_view(engine: Engine) -> None:
    for video_id, state in enumerate(("done", "failed", "cancelled", "running", "queued"), 1):
        set_jobs(
            engine, str(video_id), state=f"'{state}'", error_code="'truncated'",
            not_before=ago(-60), finished_at=ago(60),
        )  # fmt: skip
    set_jobs(engine, "6", not_before=ago(-60))
    counted = read(engine, census.count)
    rows = census.progress(counted.categories)
    assert [row.category for row in rows] == [ALL, NO_CATEGORY, "films", "animals"]
    assert rows[0] == Progress(ALL, 10, done=1, failed=1, running=1, waiting=6, cancelled=1)
    view = text(
        "SELECT category, videos, done, failed, running, waiting, cancelled FROM reelvec.progress"
    )
    assert {astuple(row) for row in rows} == read(
        engine, lambda connection: set(map(tuple, connection.execute(view)))
    )
    rate = "SELECT videos_per_second FROM reelvec.progress WHERE category = '(all)'"
    assert round(float(str(one(engine, rate))) * 600) == 1, "what is done, not what is cancelled"
    assert census.failure_counts(counted.groups) == [("truncated", 1)], (
        "a code of a video that has not failed is no failure"
    )


@pytest.mark.parametrize("commonest", ["pending", "done", "failed", "queued"])
def test_any_state_may_be_what_is_left_of_a_category(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, commonest: str
) -> None:
    """Which state Postgres takes for the commonest decides how long counting takes, nothing else;
    and videos without a job are no jobs.
    """
    set_jobs(engine, "1,4,6", state="'done'")
    set_jobs(engine, "2", state="'failed'")
    execute(engine, "INSERT INTO reelvec.videos (uri, category) VALUES ('s3://b/1', 'films'),"
                    " ('s3://b/2', 'plays'), ('s3://b/3', NULL)")  # fmt: skip
    monkeypatch.setattr(census, "_COMMONEST", text(f"SELECT '{commonest}'"))
    rows = census.progress(read(engine, census.count).categories)
    assert rows == [
        Progress(ALL, 10, done=3, failed=1, running=0, waiting=6, cancelled=0),
        Progress(NO_CATEGORY, 5, done=1, failed=0, running=0, waiting=4, cancelled=0),
        Progress("films", 3, done=1, failed=1, running=0, waiting=1, cancelled=0),
        Progress("animals", 2, done=1, failed=0, running=0, waiting=1, cancelled=0),
    ]


def test_postgres_knows_the_commonest_state(engine: Engine) -> None:
    set_jobs(engine, "1,2,3,4,5,6", state="'done'")
    execute(engine, "ANALYZE reelvec.jobs")
    assert one(engine, census._COMMONEST.text) == "done"


def test_failures_are_counted_by_code(engine: Engine) -> None:
    set_jobs(engine, "1,4", state="'failed'", error_code="'no_video'")
    set_jobs(engine, "2,3,6", state="'failed'", error_code="'truncated'")
    assert census.failure_counts(read(engine, census.count).groups) == [
        ("truncated", 3),
        ("no_video", 2),
    ]


def waiting(engine: Engine) -> Waiting:
    found = census.waiting(read(engine, census.count).groups)
    rounded = {name: round(getattr(found, name)) for name in ("ready_seconds", "delay_seconds")}
    return Waiting(
        found.ready,
        rounded["ready_seconds"],
        found.delayed,
        rounded["delay_seconds"],
        found.closed,
        found.paused,
    )


def test_what_waits_is_ready_delayed_closed_or_paused(engine: Engine) -> None:
    execute(engine, f"UPDATE reelvec.jobs SET enqueued_at = {ago(900)}")
    set_jobs(engine, "1,2,3", state="'done'", started_at=ago(50))
    set_jobs(engine, "4", state="'running'", started_at=ago(200))
    set_jobs(engine, "5", state="'queued'", started_at=ago(300), not_before=ago(120))
    assert waiting(engine) == Waiting(ready=6, ready_seconds=900)
    set_jobs(engine, "6,7", not_before=ago(-60))
    set_jobs(engine, "8", not_before=ago(-240))
    set_jobs(engine, "9,10", state="'cancelled'")
    assert waiting(engine) == Waiting(ready=1, ready_seconds=120, delayed=3, delay_seconds=240), (
        "ready since its time"
    )
    groups = read(engine, census.count).groups
    assert round(census.last_claim_seconds(groups) or 0) == 50
    assert round(census.oldest_run_seconds(groups) or 0) == 200
    execute(engine, "INSERT INTO reelvec.places (place, closed_at) VALUES ('s3://x', now()), ('s3://y', NULL)"
                    " ON CONFLICT DO NOTHING")  # fmt: skip
    place = "(SELECT place_id FROM reelvec.places WHERE place = 's3://{}')"
    set_jobs(engine, "4,6", place_id=place.format("x"))
    set_jobs(engine, "5,7", place_id=place.format("y"))
    assert waiting(engine) == Waiting(1, 120, delayed=2, delay_seconds=240, closed=1), (
        "the running one is not held"
    )
    execute(
        engine,
        "INSERT INTO reelvec.paused_backbones (backbone, reason) VALUES ('probe', 'why'), "
        "('vivit', 'why')",
    )
    assert waiting(engine) == Waiting(closed=1, paused=3)
    execute(engine, "UPDATE reelvec.paused_backbones SET paused = false WHERE backbone = 'probe'")
    assert waiting(engine).paused == 0


def look(engine: Engine) -> Census:
    return read(engine, shared_census.look)


def done(counted: Census) -> int:
    return census.progress(counted.categories)[0].done


def make_large(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten jobs are many, as far as Postgres' own estimate is asked."""
    monkeypatch.setattr(shared_census, "SHARED_JOBS", 10)
    execute(engine, "ANALYZE reelvec.jobs")


def test_a_small_ledger_always_counts_itself(engine: Engine) -> None:
    execute(engine, "ANALYZE reelvec.jobs")
    assert done(look(engine)) == 0
    set_jobs(engine, "1", state="'done'")
    assert (done(look(engine)), look(engine).age_seconds) == (1, 0.0)
    assert one(engine, "SELECT count(*) FROM reelvec.census") == 0
    assert not read(engine, shared_census.refresh)


def test_two_looks_at_a_large_ledger_are_one_count(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_large(engine, monkeypatch)
    set_jobs(engine, "2", state="'running'", started_at=ago(100))
    set_jobs(engine, "3", not_before=ago(-60))
    assert (done(look(engine)), look(engine).age_seconds > 0) == (0, True)
    set_jobs(engine, "1", state="'done'")
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(4)}")
    shared = look(engine)
    assert (done(shared), round(shared.age_seconds)) == (0, 4), "a few seconds old, and it says so"
    assert round(census.oldest_run_seconds(shared.groups) or 0) == 104, "times are told from now"
    assert round(census.waiting(shared.groups).delay_seconds) == 56
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(6)}")
    assert (
        done(look(engine)),
        one(engine, "SELECT now() - taken_at < interval '5 s' FROM reelvec.census"),
    ) == (
        1,
        True,
    )


def test_counts_of_an_older_version_are_not_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it read ours: it looks for the sets that belong to the groups."""
    make_large(engine, monkeypatch)
    look(engine)
    assert one(engine, "SELECT sets IS NULL AND sets_of IS NULL FROM reelvec.census")
    execute(engine, """UPDATE reelvec.census SET groups = '[{"category": "films"}]',"""
                    """ sets = '[{"encoders": [1], "owed": []}]', sets_of = md5(groups::text)""")  # fmt: skip
    set_jobs(engine, "1", state="'done'")
    assert (done(look(engine)), one(engine, "SELECT sets_of FROM reelvec.census")) == (1, None)
    assert (done(look(engine)), look(engine).age_seconds > 0) == (1, True)


def test_one_counts_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_large(engine, monkeypatch)
    look(engine)
    set_jobs(engine, "1", state="'done'")
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(60)}")
    with session.transaction(engine) as counting:
        counting.execute(
            text("SELECT pg_advisory_xact_lock(:key)"), {"key": shared_census.CENSUS_LOCK}
        )
        assert (done(look(engine)), round(look(engine).age_seconds)) == (0, 60), "another is at it"
        assert not read(engine, shared_census.refresh)
        execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(601)}")
        assert (done(look(engine)), look(engine).age_seconds) == (1, 0.0), (
            "those are too old to be shown"
        )
    assert one(engine, "SELECT now() - taken_at > interval '600 s' FROM reelvec.census"), (
        "whoever counted beside it"
    )


def test_workers_keep_counts_fresh_while_somebody_looks(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_large(engine, monkeypatch)
    assert not read(engine, shared_census.refresh), "nobody has looked"
    look(engine)
    assert not read(engine, shared_census.refresh), "they are fresh"
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(3)}, looked_at = {ago(599)}")
    assert read(engine, shared_census.refresh)
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(3)}, looked_at = {ago(601)}")
    assert not read(engine, shared_census.refresh), "nobody looks any more"
    look(engine)
    execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(3)}")
    assert read(engine, shared_census.refresh), "the look is remembered though it counted nothing"


def test_who_may_only_read_counts_for_himself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_large(engine, monkeypatch)
    role = f"reader_{one(engine, 'SELECT pg_backend_pid()')}"
    execute(engine, f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA reelvec TO {role};"
                    f" GRANT SELECT ON ALL TABLES IN SCHEMA reelvec TO {role}")  # fmt: skip
    try:
        for limit in (f"SET LOCAL ROLE {role}", "SET TRANSACTION READ ONLY"):
            with session.transaction(engine) as connection:
                connection.execute(text(limit))
                assert (
                    done(shared_census.look(connection)),
                    shared_census.refresh(connection),
                ) == (0, False)
        assert one(engine, "SELECT count(*) FROM reelvec.census") == 0
        look(engine)
        set_jobs(engine, "1", state="'done'")
        with session.transaction(engine) as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert done(shared_census.look(connection)) == 0, (
                "what others have counted serves them, too"
            )
        execute(engine, f"UPDATE reelvec.census SET taken_at = {ago(60)}")
        with session.transaction(engine) as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert done(shared_census.look(connection)) == 1
    finally:
        execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_how_old_counts_may_be_grows_with_the_ledger() -> None:
    def group(videos: int) -> Group:
        return Group("done", None, None, delayed=False, videos=videos, example_id=1)

    assert shared_census.fresh_seconds([group(100_000)]) == 5.0
    assert shared_census.fresh_seconds([group(600_000), group(400_000)]) == 10.0


def test_all_processes_group_although_no_job_has_failed(engine: Engine) -> None:
    """Postgres does not expect hundreds of codes and sets where every row is NULL."""
    execute(engine, "ANALYZE reelvec.jobs")
    expected = (
        "SELECT n_distinct FROM pg_stats WHERE schemaname = 'reelvec' AND tablename = 'jobs' AND "
        "attname = :column"
    )
    assert one(engine, expected, column="owes") == 20
    assert one(engine, expected, column="error_code") == 30
