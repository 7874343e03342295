"""What each model owes is kept apart from the state of a video: who makes what, what waits for
weights, what is withdrawn.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db import encoders, session
from db.errors import ErrorClass
from db.jobs import abilities, feeding, liveness, lost_messages, steering
from db.jobs.abilities import Ability
from db.jobs.catalogue import Counts, Wanted
from db.jobs.outcome import Failure, Outcome
from db.jobs.selection import Selection
from db.jobs.stages import COMMON, Queue
from db.jobs.steering import Cancelled
from db.media import Media
from db.progress import census, models
from tests.ledgering import (
    LABELS,
    Row,
    ago,
    claim,
    declare,
    execute,
    finish,
    one,
    read,
    record,
    saying,
    scores,
    set_jobs,
    state_of,
    vectors,
)

ME = {"who": "ann@desk", "what": "--backbone siglip2"}
JOB = (
    "SELECT (state, encoders, owes, attempts, token, force)::text FROM reelvec.jobs WHERE video_id "
    "= :video_id"
)
VIVIT_ALONE = Ability(("vivit",))
BAD_FILE = Outcome(
    failure=Failure("sample", "not_media", ErrorClass.PERMANENT, "prose"),
    media=Media("v1", 9),
)


class Ids(NamedTuple):
    vivit: int
    siglip2: int


@pytest.fixture
def ids(engine: Engine) -> Ids:
    return Ids(declare(engine, "vivit"), declare(engine, "siglip2"))


def enqueue(
    engine: Engine, count: int, *encoder_ids: int, etag: str | None = None, force: bool = False
) -> Counts:
    """Videos 1 to `count`, one by one: in this order."""
    counts = Counts()
    for index in range(count):
        counts.add(
            record(
                engine, [Row(f"s3://bucket/{index}.mp4", etag=etag)], Wanted(encoder_ids, (), force)
            )
        )
    return counts


def live(engine: Engine, *models: str, refused: tuple[int, ...] = ()) -> UUID:
    """A worker that can load these models; one without any says nothing, as those of the version
    before.
    """
    me = replace(
        saying(uuid4()), models=list(models) or None, refused_encoders=list(refused) or None
    )
    with session.transaction(engine) as connection:
        liveness.beat(connection, me, draining=False, gap_seconds=20.0)
    return me.worker_id


def feed(engine: Engine, room: int = 100) -> dict[int | None, list[int]]:
    """As the feeder does it, with as much room in each queue."""
    with session.transaction(engine) as connection:
        fleet = abilities.read(connection, stale_seconds=45.0)
        queues = [COMMON, *(Queue(makers.encoder_id) for makers in fleet.rare())]
        fed = feeding.feed(connection, fleet, rooms=dict.fromkeys(queues, room))
        return {queue.encoder_id: video_ids for queue, video_ids in fed.items()}


def job(engine: Engine, video_id: int = 1) -> str:
    return str(one(engine, JOB, video_id=video_id))


def make(
    engine: Engine, video_id: int, *encoder_ids: int, ability: Ability | None = None
) -> str | None:
    """Claim a video and finish it with these vectors."""
    claimed = claim(engine, video_id, uuid4(), ability or Ability())
    assert claimed is not None
    assert set(claimed.encoders) == set(encoder_ids)
    return finish(
        engine, claimed, Outcome(tuple(vectors(encoder_id) for encoder_id in encoder_ids))
    )


def progress(engine: Engine) -> dict[str, tuple[int, ...]]:
    """wanted, embedded, failed, waiting, waiting for weights by model; the view and the census
    agree.
    """
    with session.transaction(engine) as connection:
        fleet = abilities.read(connection, stale_seconds=45.0)
        counted = {
            model.encoder: astuple(model)[1:]
            for model in models.models(census.count(connection).groups, fleet)
        }
        viewed = {
            row[0]: tuple(row[1:])
            for row in connection.execute(text("SELECT * FROM reelvec.model_progress"))
        }
    assert counted == {encoder: counts for encoder, counts in viewed.items() if counts[0]}
    return counted


def withdraw(
    engine: Engine, *, backbone: str = "siglip2", selection: Selection | None = None
) -> Cancelled:
    return read(
        engine,
        lambda connection: steering.withdraw(
            connection, [backbone], selection or Selection(), **ME
        ),
    )


def test_a_worker_makes_what_it_can_and_another_one_the_rest(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 1, *ids)
    assert make(engine, 1, ids.vivit, ability=VIVIT_ALONE) == "pending"
    assert job(engine) == f'(pending,"{{{ids.vivit},{ids.siglip2}}}",{{{ids.siglip2}}},0,1,f)'
    assert claim(engine, 1, uuid4(), VIVIT_ALONE) is None
    assert job(engine).endswith(",0,1,f)"), "neither attempts nor token"
    assert make(engine, 1, ids.siglip2) == "done"
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 2


def test_what_a_worker_cannot_make_is_as_if_it_had_never_come(engine: Engine, ids: Ids) -> None:
    """Though what the row remembered was wrong, as older producers leave it; the second message
    finds it corrected.
    """
    enqueue(engine, 1, ids.vivit)
    assert make(engine, 1, ids.vivit) == "done"
    set_jobs(
        engine,
        "1",
        encoders=f"'{{{ids.vivit},{ids.siglip2}}}'",
        state="'queued'",
        finished_at="NULL",
    )
    before = one(engine, "SELECT (attempts, token, started_at)::text FROM reelvec.jobs")
    assert claim(engine, 1, uuid4(), VIVIT_ALONE) is None
    assert one(engine, "SELECT (attempts, token, started_at)::text FROM reelvec.jobs") == before
    assert (
        one(engine, "SELECT (state, owes)::text FROM reelvec.jobs")
        == f"(pending,{{{ids.siglip2}}})"
    )
    refusing = Ability(("vivit", "siglip2"), refused=(ids.siglip2,))
    assert claim(engine, 1, uuid4(), refusing) is None


def test_each_video_is_sent_where_it_can_be_made(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 3, ids.siglip2)
    enqueue(engine, 2, ids.vivit)
    assert {queue: sorted(videos) for queue, videos in feed(engine).items()} == {None: [1, 2, 3]}, (
        "who knows who comes"
    )
    set_jobs(engine, "1,2,3", state="'pending'")
    live(engine, "vivit")
    assert feed(engine) == {None: [1, 2]}, (
        "nobody can make siglip2 alone, but the vivit of the first two"
    )
    assert progress(engine) == {"vivit": (2, 0, 0, 2, 0), "siglip2": (3, 0, 0, 3, 3)}
    set_jobs(engine, "1,2", state="'pending'")
    live(engine, "vivit", "siglip2")
    assert {queue: sorted(videos) for queue, videos in feed(engine).items()} == {
        ids.siglip2: [1, 2, 3]
    }
    assert (
        one(engine, "SELECT array_agg(queue)::text FROM reelvec.jobs")
        == f"{{{','.join(3 * [str(ids.siglip2)])}}}"
    )
    assert progress(engine)["siglip2"] == (3, 0, 0, 3, 0)


def test_a_full_rare_queue_leaves_the_rest_to_all(engine: Engine, ids: Ids) -> None:
    live(engine, "vivit")
    live(engine, "vivit", "siglip2")
    enqueue(engine, 10, *ids)
    assert {queue: len(videos) for queue, videos in feed(engine, room=4).items()} == {
        ids.siglip2: 4,
        None: 4,
    }


def test_workers_of_the_version_before_count_as_able(engine: Engine, ids: Ids) -> None:
    live(engine)
    enqueue(engine, 2, *ids)
    assert feed(engine) == {None: [1, 2]}


def test_other_weights_cost_that_worker_that_encoder(engine: Engine, ids: Ids) -> None:
    live(engine, "vivit", "siglip2", refused=(ids.siglip2,))
    live(engine, "vivit", "siglip2")
    enqueue(engine, 1, ids.siglip2)
    assert feed(engine) == {ids.siglip2: [1]}


def test_queues_of_which_all_workers_are_gone_are_given_up(engine: Engine, ids: Ids) -> None:
    live(engine, "vivit")
    maker = live(engine, "vivit", "siglip2")
    enqueue(engine, 3, *ids)
    assert feed(engine) == {ids.siglip2: [1, 2, 3]}
    with session.transaction(engine) as connection:
        assert lost_messages.queues(connection) == {Queue(ids.siglip2): "siglip2"}
        assert lost_messages.requeue_abandoned(connection, []) == set()
        liveness.leave(connection, maker)
        lacking = [
            makers.encoder_id for makers in abilities.read(connection, stale_seconds=45.0).lacking()
        ]
        assert lost_messages.requeue_abandoned(connection, lacking) == {ids.siglip2}
    assert feed(engine) == {None: [1, 2, 3]}, "their vivit"


def test_a_message_is_lost_by_what_its_own_queue_shows(engine: Engine, ids: Ids) -> None:
    live(engine, "vivit")
    live(engine, "vivit", "siglip2")
    enqueue(engine, 2, ids.vivit)
    record(
        engine, [Row(f"s3://bucket/x{index}.mp4") for index in range(2)], Wanted((ids.siglip2,), ())
    )
    assert feed(engine) == {None: [1, 2], ids.siglip2: [3, 4]}
    execute(engine, f"UPDATE reelvec.jobs SET queued_at = {ago(700)} + video_id * interval '1 s'")
    assert claim(engine, 2, uuid4()) is not None
    with session.transaction(engine) as connection:
        assert (
            lost_messages.requeue_overtaken(
                connection, queue=Queue(ids.siglip2), older_than_seconds=600.0
            )
            == 0
        )
        assert lost_messages.requeue_overtaken(connection, older_than_seconds=600.0) == 1
        assert lost_messages.requeue_all(connection, older_than_seconds=30.0) == 0
    assert [state_of(engine, video) for video in (3, 4)] == ["queued", "queued"], (
        "the common queue says nothing of them"
    )
    with session.transaction(engine) as connection:
        assert (
            lost_messages.requeue_all(connection, queue=Queue(ids.siglip2), older_than_seconds=30.0)
            == 2
        )


def test_what_is_made_again_is_made_once_by_each(engine: Engine, ids: Ids) -> None:
    """By --force, and where the file is another version: the old rows do not count, and the new
    ones do.
    """
    enqueue(engine, 1, *ids)
    assert make(engine, 1, *ids) == "done"
    enqueue(engine, 1, *ids, force=True)
    assert make(engine, 1, ids.vivit, ability=VIVIT_ALONE) == "pending"
    assert claim(engine, 1, uuid4(), VIVIT_ALONE) is None, "it is not made again and again"
    assert make(engine, 1, ids.siglip2) == "done"
    execute(engine, "UPDATE reelvec.videos SET etag = 'v1'")
    set_jobs(engine, "1", state="'pending'", encoders=f"'{{{ids.vivit},{ids.siglip2}}}'")
    execute(engine, "DELETE FROM reelvec.video_embeddings WHERE encoder_id = :id", id=ids.vivit)
    claimed = claim(engine, 1, uuid4(), VIVIT_ALONE)
    assert claimed is not None
    again = Outcome((vectors(ids.vivit),), media=Media("v2", 9))
    assert finish(engine, claimed, again) == "pending", "the other model's vector is that of v1"
    assert make(engine, 1, ids.siglip2) == "done"
    assert one(engine, "SELECT (force, owes)::text FROM reelvec.jobs") == "(f,)"


def test_what_waits_to_be_made_again_is_made_although_more_is_wanted(
    engine: Engine, ids: Ids
) -> None:
    enqueue(engine, 1, ids.vivit)
    assert make(engine, 1, ids.vivit) == "done"
    enqueue(engine, 1, ids.vivit, force=True)
    enqueue(engine, 1, *ids)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert set(claimed.encoders) == set(ids)


def test_a_model_that_fails_leaves_the_others_their_try(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 1, *ids)
    claimed = claim(engine, 1, uuid4(), VIVIT_ALONE)
    assert claimed is not None
    broken = Failure("encode", "nonfinite", ErrorClass.BAD_OUTPUT, "NaN", "vivit")
    assert finish(engine, claimed, Outcome(failure=broken)) == "pending"
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert finish(engine, claimed, Outcome((vectors(ids.siglip2),), failure=broken)) == "failed"
    assert progress(engine) == {"vivit": (1, 0, 1, 0, 0), "siglip2": (1, 1, 0, 0, 0)}


def test_done_stays_done_when_what_was_added_is_cancelled(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 3, ids.vivit)
    for video_id in (1, 2):
        assert make(engine, video_id, ids.vivit) == "done"
    made_at = one(engine, "SELECT max(created_at) FROM reelvec.video_embeddings")
    assert enqueue(engine, 3, *ids).queued == 2
    found = read(engine, lambda connection: steering.cancel(connection, Selection(), **ME))
    assert found == Cancelled(cancelled=1, done=2)
    assert (
        one(engine, "SELECT max(finished_at) FROM reelvec.jobs WHERE state = 'done'") == made_at
    ), "no new pace"
    counts = enqueue(engine, 3, ids.vivit)
    assert (counts.already_done, counts.queued) == (2, 1)
    assert one(engine, "SELECT videos FROM reelvec.actions") == 3


def test_a_model_is_withdrawn(engine: Engine, ids: Ids) -> None:
    """From what has its vectors, from what waits for it, from what wants nothing else, from what is
    in hand or failed.
    """
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, ids.siglip2, "siglip2", LABELS)
    rows = [Row(f"s3://bucket/{index}.mp4") for index in range(7)]
    for index, row in enumerate(rows):
        record(engine, [row], Wanted((ids.vivit if index < 5 else ids.siglip2,), ()))
    for video_id in (1, 2):
        make(engine, video_id, ids.vivit)
    record(engine, rows[:5], Wanted(ids, (tagger,)))
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert finish(engine, claimed, Outcome((vectors(ids.siglip2),), (scores(tagger),))) == "done"
    in_hand = claim(engine, 4, uuid4(), VIVIT_ALONE)
    assert in_hand is not None
    broken = claim(engine, 5, uuid4())
    assert broken is not None
    failure = Failure("encode", "nonfinite", ErrorClass.BAD_OUTPUT, "NaN", "siglip2")
    assert finish(engine, broken, Outcome((vectors(ids.vivit),), failure=failure)) == "failed"
    set_jobs(engine, "3", state="'queued'", queue=str(ids.siglip2))

    films = Selection(uri_prefix="s3://bucket/6")
    assert withdraw(engine, selection=films) == Cancelled(cancelled=1)
    assert withdraw(engine) == Cancelled(cancelled=1, done=3, waiting=2)
    assert finish(engine, in_hand, Outcome((vectors(ids.vivit),))) == "done"
    states = [state_of(engine, video_id) for video_id in range(1, 8)]
    assert states == ["done", "done", "pending", "done", "done", "cancelled", "cancelled"]
    assert (
        one(engine, "SELECT count(*) FROM reelvec.jobs WHERE taggers <> '{}' OR owes IS NOT NULL")
        == 3
    )
    assert (
        one(
            engine,
            "SELECT count(*) FROM reelvec.video_embeddings WHERE encoder_id = :id",
            id=ids.siglip2,
        )
        == 1
    )
    assert progress(engine) == {"vivit": (5, 4, 0, 1, 0)}
    assert withdraw(engine) == Cancelled()
    counts = record(engine, rows[:5], Wanted((ids.vivit,), ()))
    assert (counts.already_done, counts.queued) == (4, 0)
    last = read(engine, lambda connection: steering.latest(connection, limit=2))[1]
    assert (last.action, last.what, last.videos) == ("cancel", "--backbone siglip2", 6)


def test_a_bad_file_stays_failed_for_a_new_model(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 2, ids.vivit, etag="v1")
    for video_id in (1, 2):
        claimed = claim(engine, video_id, uuid4())
        assert claimed is not None
        assert finish(engine, claimed, BAD_FILE) == "failed"
    failed = (
        "SELECT (state, attempts, error_code, error, finished_at)::text FROM reelvec.jobs WHERE "
        "video_id = 1"
    )
    before = one(engine, failed)
    counts = enqueue(engine, 2, *ids, etag="v1")
    assert (counts.already_failed, counts.queued) == (2, 0)
    assert one(engine, failed) == before
    assert progress(engine) == {"vivit": (2, 0, 2, 0, 0), "siglip2": (2, 0, 2, 0, 0)}
    read(
        engine,
        lambda connection: steering.retry(connection, Selection(uri_prefix="s3://bucket/0"), **ME),
    )
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert claimed.encoders == tuple(ids), "a retry makes both"
    assert (
        record(engine, [Row("s3://bucket/1.mp4", etag="v2")], Wanted((ids.siglip2,), ())).queued
        == 1
    )


def test_what_failed_for_other_reasons_opens_again(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 1, ids.vivit)
    set_jobs(engine, "1", state="'failed'", error_code="'not_found'")
    assert enqueue(engine, 1, *ids).queued == 1


def test_an_encoder_that_is_wanted_is_not_deleted(engine: Engine, ids: Ids) -> None:
    enqueue(engine, 2, *ids)
    with pytest.raises(
        DBAPIError,
        match=r"encoder siglip2 is still wanted by 2 videos\n.*cancel --backbone siglip2",
    ):
        execute(engine, "DELETE FROM reelvec.encoders WHERE encoder = 'siglip2'")
    withdraw(engine)
    execute(engine, "DELETE FROM reelvec.encoders WHERE encoder = 'siglip2'")
    assert make(engine, 1, ids.vivit) == "done"


def test_a_deleted_tagger_is_withdrawn(engine: Engine, ids: Ids) -> None:
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, ids.vivit, "vivit", LABELS)
    record(engine, [Row("s3://bucket/0.mp4")], Wanted((ids.vivit,), (tagger,)))
    execute(engine, "DELETE FROM reelvec.taggers")
    assert one(engine, "SELECT taggers::text FROM reelvec.jobs") == "{}"


def test_what_waits_for_weights_is_not_ready(engine: Engine, ids: Ids) -> None:
    live(engine, "vivit")
    enqueue(engine, 2, ids.vivit)
    record(engine, [Row("s3://bucket/x.mp4")], Wanted((ids.siglip2,), ()))
    with session.transaction(engine) as connection:
        fleet = abilities.read(connection, stale_seconds=45.0)
        waiting = census.waiting(models.hold(census.count(connection).groups, fleet))
    assert (waiting.ready, waiting.weights) == (2, 1)
