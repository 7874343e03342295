"""The ledger's promises, on a real Postgres: who may take a video, who may finish it, who gets it
back.
"""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from db import encoders, ledger, session
from db.errors import ErrorClass
from db.jobs import liveness, lost_messages
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome
from tests.ledgering import (
    LABELS,
    Row,
    claim,
    declare,
    execute,
    feed,
    finish,
    one,
    record,
    saying,
    scores,
    state_of,
    ten_videos,
    vectors,
    worker,
)


@pytest.fixture
def probe(engine: Engine) -> int:
    return declare(engine)


def enqueue(
    engine: Engine, count: int, *encoder_ids: int, taggers: tuple[int, ...] = ()
) -> list[int]:
    record(engine, [Row(f"file:///v{i}") for i in range(count)], Wanted(encoder_ids, taggers))
    return list(range(1, count + 1))


def test_only_one_of_many_claims_wins(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    won: list[object] = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        won.append(claim(engine, 1, uuid4()))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in won) == 1


@pytest.mark.parametrize(
    "change",
    [
        "state = 'done'",
        "state = 'cancelled'",
        "state = 'running'",
        "not_before = now() + interval '1 minute'",
    ],
)
def test_what_is_not_waiting_cannot_be_claimed(engine: Engine, probe: int, change: str) -> None:
    enqueue(engine, 1, probe)
    execute(engine, f"UPDATE reelvec.jobs SET {change}")
    assert claim(engine, 1, uuid4()) is None
    assert claim(engine, 99, uuid4()) is None


def test_nothing_is_claimed_or_fed_while_paused(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    execute(engine, "INSERT INTO reelvec.control (name, paused) VALUES ('operator', true)")
    assert claim(engine, 1, uuid4()) is None
    with session.transaction(engine) as connection:
        assert feed(connection, room=10) == []
    execute(engine, "UPDATE reelvec.control SET paused = false")
    assert claim(engine, 1, uuid4()) is not None


def test_a_claim_owes_only_what_has_no_row_yet(engine: Engine, probe: int) -> None:
    other = declare(engine, "other")
    enqueue(engine, 1, probe)
    first = claim(engine, 1, uuid4())
    assert first is not None
    assert finish(engine, first, Outcome((vectors(probe),))) == "done"
    record(engine, [Row("file:///v0")], Wanted((probe, other), ()))
    second = claim(engine, 1, uuid4())
    assert second is not None
    assert second.encoders == (other,)
    assert second.token == first.token + 1


def test_a_deleted_tagger_is_owed_no_more(engine: Engine, probe: int) -> None:
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, probe, "probe", LABELS)
    record(engine, [Row("file:///v0")], Wanted((probe,), (tagger,)))
    execute(engine, "DELETE FROM reelvec.taggers")
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert (claimed.taggers, claimed.all_taggers) == ((), ())
    assert finish(engine, claimed, Outcome((vectors(probe),))) == "done"


def test_finish_writes_vectors_windows_and_scores(engine: Engine, probe: int) -> None:
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, probe, "probe", LABELS)
    enqueue(engine, 1, probe, taggers=(tagger,))
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert (
        finish(engine, claimed, Outcome((vectors(probe, 2.5),), (scores(tagger),), bytes_read=7))
        == "done"
    )
    assert (
        str(one(engine, "SELECT embedding::text FROM reelvec.video_embeddings"))
        == "[2.5,2.5,2.5,2.5]"
    )
    windows = (
        "SELECT array_agg(start_seconds ORDER BY window_index)::text FROM reelvec.window_embeddings"
    )
    assert one(engine, windows) == "{0,1,2}"
    assert (
        one(engine, "SELECT tag || ' ' || round(probability::numeric, 3) FROM reelvec.scores")
        == "dogs 0.700"
    )
    assert (
        one(engine, "SELECT array_dims(window_probabilities) FROM reelvec.scores") == "[1:3][1:2]"
    )
    assert one(engine, "SELECT string_agg(tag, ',' ORDER BY rank) FROM reelvec.tags") == "dogs,cats"
    assert one(engine, "SELECT bytes_read FROM reelvec.jobs") == 7


def test_a_late_worker_is_fenced_and_leaves_nothing(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    late = claim(engine, 1, uuid4())
    assert late is not None
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending', worker_id = NULL")
    assert finish(engine, late, Outcome((vectors(probe),))) is None
    owner = claim(engine, 1, uuid4())
    assert owner is not None
    assert finish(engine, late, Outcome((vectors(probe, 9.0),))) is None
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 0
    assert finish(engine, owner, Outcome((vectors(probe),))) == "done"
    assert finish(engine, owner, Outcome((vectors(probe, 9.0),))) is None, (
        "a second finish changes nothing"
    )
    assert one(engine, "SELECT embedding::text FROM reelvec.video_embeddings") == "[1,1,1,1]"


def test_the_token_fences_a_workers_own_earlier_try(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    me = uuid4()
    earlier = claim(engine, 1, me)
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending'")
    later = claim(engine, 1, me)
    assert earlier is not None
    assert later is not None
    assert finish(engine, earlier, Outcome((vectors(probe, 9.0),))) is None
    with session.transaction(engine) as connection:
        assert not ledger.release(connection, earlier)
    assert finish(engine, later, Outcome((vectors(probe),))) == "done"


def test_what_succeeded_is_kept_when_another_encoder_failed(engine: Engine, probe: int) -> None:
    other = declare(engine, "other")
    enqueue(engine, 1, probe, other)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    failure = Failure("encode", "nonfinite", ErrorClass.BAD_OUTPUT, "NaN in window 2\0", "other")
    assert finish(engine, claimed, Outcome((vectors(probe),), failure=failure)) == "failed"
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 1
    assert (
        one(engine, "SELECT error_code || ': ' || error FROM reelvec.jobs")
        == "nonfinite: NaN in window 2"
    )
    assert one(engine, "SELECT encoder FROM reelvec.attempts") == "other"


def test_a_transient_failure_waits_and_its_time_comes(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    failure = Failure("fetch", "io_error", ErrorClass.TRANSIENT, "reset")
    assert finish(engine, claimed, Outcome(failure=failure)) == "pending"
    assert one(engine, "SELECT not_before > now() FROM reelvec.jobs") is True
    assert claim(engine, 1, uuid4()) is None
    execute(engine, "UPDATE reelvec.jobs SET not_before = now()")
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.attempts == 2


def test_a_job_widened_while_it_ran_goes_back_to_pending(engine: Engine, probe: int) -> None:
    other = declare(engine, "other")
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    record(engine, [Row("file:///v0")], Wanted((other,), ()))
    assert finish(engine, claimed, Outcome((vectors(probe),))) == "pending"
    rest = claim(engine, 1, uuid4())
    assert rest is not None
    assert rest.encoders == (other,)


def test_a_released_video_is_as_if_never_claimed(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    with session.transaction(engine) as connection:
        assert ledger.release(connection, claimed)
        assert not ledger.release(connection, claimed), "only once"
    assert state_of(engine, 1) == "pending"
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.attempts == 1


def reap(engine: Engine, me: object, stale_seconds: float = 45.0) -> list[int]:
    with session.transaction(engine) as connection:
        return liveness.reap(connection, me, stale_seconds=stale_seconds, gap_seconds=20.0)  # type: ignore[arg-type]


def old_hands(engine: Engine) -> None:
    """Pretend that everybody has been beating for long."""
    execute(engine, "UPDATE reelvec.workers SET beating_since = now() - interval '1 hour'")


def test_the_videos_of_a_dead_worker_come_back_and_only_those(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    me, dead = worker(engine), worker(engine)
    claim(engine, 1, me)
    claim(engine, 2, dead)
    claim(engine, 3, uuid4())  # a worker that has no row at all
    old_hands(engine)
    execute(
        engine,
        "UPDATE reelvec.workers SET beat_at = now() - interval '46 s' WHERE worker_id = :id",
        id=dead,
    )
    assert reap(engine, me) == [2, 3]
    assert [state_of(engine, video) for video in (1, 2, 3)] == ["running", "pending", "pending"]
    assert one(engine, "SELECT lost_count FROM reelvec.jobs WHERE video_id = 2") == 1
    assert one(engine, "SELECT attempts FROM reelvec.jobs WHERE video_id = 2") == 0


def test_a_worker_that_was_away_itself_may_not_judge(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    me = worker(engine)
    claim(engine, 1, uuid4())
    assert reap(engine, me) == [], "it has only just begun to beat"
    old_hands(engine)
    execute(engine, "UPDATE reelvec.workers SET beat_at = now() - interval '21 s'")
    assert reap(engine, me) == [], "it has missed a beat itself"
    assert state_of(engine, 1) == "running"


@pytest.mark.parametrize("outage_seconds", [21, 36, 40, 45, 60, 90, 300])
def test_an_outage_takes_no_video_from_a_living_worker(
    engine: Engine, probe: int, outage_seconds: int
) -> None:
    """Both had beaten right before it. Mine is the first beat after it, and I am quick to judge."""
    enqueue(engine, 1, probe)
    me, other = worker(engine), worker(engine)
    claim(engine, 1, other)
    old_hands(engine)
    execute(engine, f"UPDATE reelvec.workers SET beat_at = now() - interval '{outage_seconds} s'")
    execute(
        engine,
        "UPDATE reelvec.workers SET beat_at = beat_at - interval '10 s' WHERE worker_id = :id",
        id=other,
    )
    assert reap(engine, me) == []
    with session.transaction(engine) as connection:
        liveness.beat(connection, saying(me), draining=False, gap_seconds=20.0)
    assert reap(engine, me) == []
    assert state_of(engine, 1) == "running"
    execute(engine, "UPDATE reelvec.workers SET beating_since = beating_since - interval '46 s'")
    execute(
        engine,
        "UPDATE reelvec.workers SET beat_at = now() - interval '46 s' WHERE worker_id = :id",
        id=other,
    )
    assert reap(engine, me) == [1], "one that stays silent is dead all the same"


def test_a_gap_in_the_beats_starts_the_count_anew(engine: Engine) -> None:
    me = liveness.Worker(uuid4(), "here", 1, "cpu", "0", 3, 1, 2.0, 1)
    for _ in range(2):
        with session.transaction(engine) as connection:
            liveness.beat(connection, me, draining=False, gap_seconds=20.0)
    assert one(engine, "SELECT beating_since < beat_at FROM reelvec.workers") is True
    execute(engine, "UPDATE reelvec.workers SET beat_at = now() - interval '1 hour'")
    with session.transaction(engine) as connection:
        liveness.beat(connection, me, draining=False, gap_seconds=20.0)
    assert one(engine, "SELECT beating_since = beat_at FROM reelvec.workers") is True


def test_a_video_past_its_deadline_comes_back(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    me = worker(engine)
    claim(engine, 1, me)
    old_hands(engine)
    execute(engine, "UPDATE reelvec.jobs SET deadline_at = now() - interval '1 s'")
    assert reap(engine, me) == [1]


def test_what_a_worker_holds_only_on_paper_comes_back(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    me, other = worker(engine), worker(engine)
    claim(engine, 1, me)
    claim(engine, 2, me)
    claim(engine, 3, other)
    with session.transaction(engine) as connection:
        assert (
            liveness.give_back_unheld(connection, me, in_hand=[1], older_than_seconds=60.0) == []
        ), "it is fresh"
    with session.transaction(engine) as connection:
        assert liveness.give_back_unheld(connection, me, in_hand=[1], older_than_seconds=0.0) == [2]
    assert [state_of(engine, video) for video in (1, 2, 3)] == ["running", "pending", "running"]
    assert one(engine, "SELECT attempts FROM reelvec.jobs WHERE video_id = 2") == 0


def test_feed_marks_each_video_once_in_order(engine: Engine, probe: int) -> None:
    enqueue(engine, 5, probe)
    with session.transaction(engine) as connection:
        assert feed(connection, room=2) == [1, 2]
    with session.transaction(engine) as connection:
        assert feed(connection, room=10) == [3, 4, 5]
    with session.transaction(engine) as connection:
        assert feed(connection, room=10) == []


def test_one_feeder_at_a_time(engine: Engine, probe: int) -> None:
    enqueue(engine, 2, probe)
    with session.transaction(engine) as first, session.transaction(engine) as second:
        assert feed(first, room=1) == [1]
        assert feed(second, room=1) == []


def test_queued_rows_without_a_message_come_back(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    with session.transaction(engine) as connection:
        feed(connection, room=3)
    execute(
        engine, "UPDATE reelvec.jobs SET queued_at = now() - interval '1 minute' WHERE video_id < 3"
    )
    with session.transaction(engine) as connection:
        assert lost_messages.requeue_all(connection, older_than_seconds=30.0) == 2
    assert [state_of(engine, video) for video in (1, 2, 3)] == ["pending", "pending", "queued"]


def test_a_message_overtaken_by_a_younger_one_is_lost(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    with session.transaction(engine) as connection:
        feed(connection, room=3)
    execute(
        engine,
        "UPDATE reelvec.jobs SET queued_at = now() - make_interval(mins => 30 - video_id::int)",
    )
    with session.transaction(engine) as connection:
        assert lost_messages.requeue_overtaken(connection, older_than_seconds=600.0) == 0, (
            "nothing was claimed yet"
        )
    claim(engine, 2, uuid4())
    with session.transaction(engine) as connection:
        assert lost_messages.requeue_overtaken(connection, older_than_seconds=600.0) == 1
    assert [state_of(engine, video) for video in (1, 2, 3)] == ["pending", "running", "queued"]


def test_taking_a_video_down_takes_everything_along(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    finish(engine, claimed, Outcome((vectors(probe),)))
    execute(engine, "DELETE FROM reelvec.videos")
    for table in ("jobs", "embeddings", "window_embeddings"):
        assert one(engine, f"SELECT count(*) FROM reelvec.{table}") == 0


def test_a_row_that_another_feeder_holds_is_passed_over(engine: Engine) -> None:
    ten_videos(engine)
    with session.transaction(engine) as other:
        other.execute(text("SELECT FROM reelvec.jobs WHERE video_id = 1 FOR UPDATE"))
        with session.transaction(engine) as connection:
            assert sorted(feed(connection, room=10)) == list(range(2, 11))
