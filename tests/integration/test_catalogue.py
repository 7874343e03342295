"""Recording: idempotent, exact counts, safe with many producers at once."""

from __future__ import annotations

import threading
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from db import session
from db.errors import VideoError
from db.jobs import catalogue
from db.jobs.catalogue import Counts, Wanted
from db.jobs.outcome import Outcome
from db.media import Media
from producer.sources.manifest import FROM_NAMES
from tests.ledgering import Row, claim, declare, execute, finish, one, record, state_of, vectors
from workers.pipeline import failure_of


@pytest.fixture
def wanted(engine: Engine) -> Wanted:
    return Wanted((declare(engine),), ())


def rows(count: int, **facts: str) -> list[Row]:
    return [Row(f"file:///v{i}", **facts) for i in range(count)]  # type: ignore[arg-type]


def test_the_second_run_adds_nothing(engine: Engine, wanted: Wanted) -> None:
    assert record(engine, rows(3), wanted) == Counts(selected=3, new_videos=3, queued=3)
    assert record(engine, rows(3), wanted) == Counts(selected=3, already_waiting=3)


def test_numbers_have_no_gaps(engine: Engine, wanted: Wanted) -> None:
    """Neither what was recorded before nor a rehearsal of several chunks costs one."""
    record(engine, rows(2), wanted)
    record(engine, rows(3), wanted)
    with engine.connect() as connection:
        catalogue.begin(connection)
        for prefix in "abb":
            chunk = [Row(f"s3://{prefix}/{number}") for number in range(2)]
            counts = catalogue.record(connection, [*rows(3), *chunk], wanted, rehearsal=True)
            assert counts.queued + counts.duplicates >= 2
        assert catalogue.selection_states(connection) == {"pending": 7}
        connection.rollback()
    record(engine, rows(4), wanted)
    assert one(engine, "SELECT array_agg(video_id ORDER BY video_id) FROM reelvec.videos") == [
        1,
        2,
        3,
        4,
    ]


def test_every_selected_video_is_in_exactly_one_count(engine: Engine, wanted: Wanted) -> None:
    record(engine, rows(5), wanted)
    for video_id, state in enumerate(("done", "failed", "cancelled", "queued", "running"), 1):
        execute(engine, f"UPDATE reelvec.jobs SET state = '{state}' WHERE video_id = {video_id}")
    counts = record(engine, rows(6), wanted)
    assert counts == Counts(
        selected=6, new_videos=1, queued=2, already_done=1, already_failed=1, already_waiting=2
    ), "new and cancelled are queued"


def test_a_new_backbone_opens_finished_videos_for_it_alone(engine: Engine, wanted: Wanted) -> None:
    record(engine, rows(1), wanted)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    finish(engine, claimed, Outcome((vectors(wanted.encoders[0]),)))
    other = declare(engine, "other")
    assert record(engine, rows(1), Wanted((other,), ())).queued == 1
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.encoders == (other,)


def test_those_that_wait_already_and_get_another_model_are_counted(
    engine: Engine, wanted: Wanted
) -> None:
    record(engine, rows(4), wanted)
    execute(engine, "UPDATE reelvec.jobs SET state = 'running' WHERE video_id = 1")
    execute(engine, "UPDATE reelvec.jobs SET state = 'done' WHERE video_id = 2")
    other = Wanted((declare(engine, "other"),), ())
    assert record(engine, rows(4), other) == Counts(
        selected=4, queued=1, already_waiting=3, widened=3
    )
    assert record(engine, rows(4), other) == Counts(selected=4, already_waiting=4)


def test_an_object_that_was_replaced_is_made_again(engine: Engine, wanted: Wanted) -> None:
    """The etag is that of the bytes the rows were made from; a source that says none, or the same,
    changes nothing.
    """
    row = Row("s3://bucket/v.mp4", etag="v1")
    record(engine, [row], wanted)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    finish(engine, claimed, Outcome((vectors(wanted.encoders[0]),), media=Media("v1")))
    assert record(engine, [row], wanted) == Counts(selected=1, already_done=1)
    assert record(engine, [Row("s3://bucket/v.mp4")], wanted) == Counts(selected=1, already_done=1)
    assert record(engine, [replace(row, etag="v2")], wanted) == Counts(
        selected=1, changed=1, queued=1
    )
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.encoders == wanted.encoders
    finish(engine, again, Outcome((vectors(wanted.encoders[0], 2.0),), media=Media("v2")))
    assert record(engine, [replace(row, etag="v2")], wanted) == Counts(selected=1, already_done=1)


def test_a_failed_upload_that_was_replaced_is_tried_again(engine: Engine, wanted: Wanted) -> None:
    row = Row("s3://bucket/v.mp4", etag="cut")
    record(engine, [row], wanted)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    failure = failure_of(VideoError("truncated", "why", stage="sample"))
    assert finish(engine, claimed, Outcome(failure=failure, media=Media("cut"))) == "failed"
    assert record(engine, [row], wanted) == Counts(selected=1, already_failed=1)
    assert record(engine, [replace(row, etag="whole")], wanted) == Counts(
        selected=1, changed=1, queued=1
    )
    assert state_of(engine, 1) == "pending"


def test_a_worker_that_meets_another_version_owes_everything(
    engine: Engine, wanted: Wanted
) -> None:
    record(engine, [Row("s3://bucket/v.mp4")], wanted)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    finish(engine, claimed, Outcome((vectors(wanted.encoders[0]),), media=Media("v1")))
    other = declare(engine, "other")
    record(engine, [Row("s3://bucket/v.mp4")], Wanted((other,), ()))
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.for_version("v1").encoders == (other,)
    assert again.for_version("v2").encoders == (*wanted.encoders, other)


def test_force_makes_everything_again(engine: Engine, wanted: Wanted) -> None:
    record(engine, rows(1), wanted)
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    finish(engine, claimed, Outcome((vectors(wanted.encoders[0], 1.0),)))
    assert record(engine, rows(1), Wanted(wanted.encoders, (), force=True)).queued == 1
    again = claim(engine, 1, uuid4())
    assert again is not None
    assert again.encoders == wanted.encoders
    assert finish(engine, again, Outcome((vectors(wanted.encoders[0], 2.0),))) == "done"
    assert one(engine, "SELECT embedding::text FROM reelvec.video_embeddings") == "[2,2,2,2]"
    assert one(engine, "SELECT force FROM reelvec.jobs") is False


def test_renditions_may_share_an_id(engine: Engine, wanted: Wanted) -> None:
    """Twice in one file, on a new video and on a known one: nothing is dropped, nothing breaks
    off.
    """
    counts = record(
        engine, [Row("file:///a", "1"), Row("file:///a", "1"), Row("file:///b", "1")], wanted
    )
    assert (counts.selected, counts.queued, counts.duplicates) == (2, 2, 1)
    record(engine, [Row("file:///c", "2")], wanted)
    record(engine, [Row("file:///c", "1"), Row("file:///d", "1")], wanted)
    ids = "SELECT string_agg(uri, ',' ORDER BY uri) FROM reelvec.videos WHERE external_id = '1'"
    assert one(engine, ids) == "file:///a,file:///b,file:///c,file:///d"


def test_a_category_that_the_source_changes_is_counted(engine: Engine, wanted: Wanted) -> None:
    record(
        engine,
        [Row("file:///a", category="films"), Row("file:///b", category="films"), Row("file:///c")],
        wanted,
    )
    again = [
        Row("file:///a", category="serials"),
        Row("file:///b", "7", category="films"),
        Row("file:///c", category="x"),
    ]
    assert record(engine, again, wanted).recategorised == 1
    assert record(engine, again, wanted).recategorised == 0
    assert record(engine, [Row("file:///a")], wanted).recategorised == 0
    assert (
        one(engine, "SELECT string_agg(category, ',' ORDER BY uri) FROM reelvec.videos")
        == "serials,films,x"
    )


def test_duplicates_across_chunks_are_counted_once(engine: Engine, wanted: Wanted) -> None:
    with session.transaction(engine) as connection:
        catalogue.begin(connection)
        first = catalogue.record(connection, rows(2), wanted)
        second = catalogue.record(connection, rows(3), wanted)
    assert (first.selected, second.selected, second.duplicates) == (2, 1, 2)


def test_a_later_source_adds_what_it_knows_and_erases_nothing(
    engine: Engine, wanted: Wanted
) -> None:
    record(engine, [Row("file:///a", category="films", attributes={"likes": "1"})], wanted)
    record(engine, [Row("file:///a", "rt-1", title="Ночь", attributes={"lang": "ru"})], wanted)
    assert one(
        engine,
        "SELECT concat_ws('|', external_id, category, title, attributes) FROM reelvec.videos",
    ) == ('rt-1|films|Ночь|{"lang": "ru", "likes": "1"}')


def facts_of(engine: Engine, uri: str) -> object:
    facts = "SELECT concat_ws('|', category, title) FROM reelvec.videos WHERE uri = :uri"
    return one(engine, facts, uri=uri)


def test_what_is_made_from_names_fills_gaps_and_replaces_nothing(
    engine: Engine, wanted: Wanted
) -> None:
    folder = Row("file:///space/cat.mp4", category="space", title="cat", derived=FROM_NAMES)
    said = Row(folder.uri, category="documentary", title="Кот")
    record(engine, [replace(said, title=None)], wanted)
    again = record(engine, [folder], wanted)
    assert (again.recategorised, again.retitled, again.category_kept) == (0, 0, 1)
    assert facts_of(engine, folder.uri) == "documentary|cat", "the title was nobody's"
    listed = record(engine, [said], wanted)
    assert (listed.recategorised, listed.retitled, listed.category_kept) == (0, 1, 0)
    record(engine, [folder], wanted)
    assert facts_of(engine, folder.uri) == "documentary|Кот"


def test_what_is_said_replaces_what_was_made_from_names(engine: Engine, wanted: Wanted) -> None:
    """By a list both facts, by `--as` the category alone: the title beside it is still a name."""
    folder = Row("file:///space/cat.mp4", category="space", title="cat", derived=FROM_NAMES)
    record(engine, [folder], wanted)
    assert facts_of(engine, folder.uri) == "space|cat"
    counts = record(engine, [Row(folder.uri, category="documentary", title="Кот")], wanted)
    assert (counts.recategorised, counts.retitled, counts.category_kept) == (1, 1, 0)
    assert facts_of(engine, folder.uri) == "documentary|Кот"
    as_pets = replace(folder, category="pets", derived=frozenset({"title"}))
    counts = record(engine, [as_pets], wanted)
    assert (counts.recategorised, counts.retitled, counts.category_kept) == (1, 0, 0)
    assert facts_of(engine, folder.uri) == "pets|Кот"


def test_rows_of_one_video_are_taken_together_wherever_they_stand(
    engine: Engine, wanted: Wanted
) -> None:
    """In one chunk as in two: `enqueue list.csv clips` loses nothing that the list says."""
    said = {"external_id": "7", "category": "documentary", "title": "Кот"}
    facts = (
        "SELECT concat_ws('|', external_id, category, title, attributes->>'a', attributes->>'b',"
        " size_bytes) FROM reelvec.videos WHERE uri = :uri"
    )
    for name, together in (("one", True), ("two", False)):
        uri = f"file:///space/{name}.mp4"
        listed = Row(uri, **said, attributes={"a": "1"})  # type: ignore[arg-type]
        folder = Row(uri, category="space", title=name, size_bytes=5, derived=FROM_NAMES)
        later = Row(uri, title="Cat", attributes={"b": "2"})
        for chunk in ([[folder, listed, folder, later]] if together else
                      [[folder], [listed], [folder], [later]]):  # fmt: skip
            record(engine, chunk, wanted)
        assert one(engine, facts, uri=uri) == "7|documentary|Cat|1|2|5", name


def test_a_category_from_a_name_gives_way_to_one_that_is_said_beside_it(
    engine: Engine, wanted: Wanted
) -> None:
    """Rows that say nothing leave the other row's facts what they were: said, or from names."""
    known = Row("file:///space/cat.mp4", category="pets", title="Кот")
    folder = Row(known.uri, category="space", title="cat", derived=FROM_NAMES)
    record(engine, [known], wanted)
    counts = record(engine, [folder, Row(known.uri, "7")], wanted)
    assert (counts.duplicates, counts.recategorised, counts.category_kept) == (1, 0, 1)
    assert facts_of(engine, known.uri) == "pets|Кот"
    record(engine, [Row(known.uri, category="films"), folder], wanted)
    assert facts_of(engine, known.uri) == "films|Кот"


def test_recorded_videos_can_be_selected_again_by_category(engine: Engine, wanted: Wanted) -> None:
    record(engine, [*rows(3, category="films"), Row("file:///x", category="animals")], wanted)
    other = Wanted((declare(engine, "other"),), ())
    with session.transaction(engine) as connection:
        catalogue.begin(connection)
        counts, last = catalogue.record_known(
            connection, other, categories=["films"], after_video_id=0, room=2
        )
        assert (counts.selected, counts.already_waiting) == (2, 2)
        assert last is not None
        counts, last = catalogue.record_known(
            connection, other, categories=["films"], after_video_id=last, room=2
        )
        assert counts.selected == 1
        assert last is not None
        assert (
            catalogue.record_known(
                connection, other, categories=["films"], after_video_id=last, room=2
            )[1]
            is None
        )
    widened = (
        "SELECT count(*) FROM reelvec.jobs JOIN reelvec.videos USING (video_id) WHERE "
        "cardinality(encoders) = 2"
    )
    assert one(engine, widened) == 3
    assert one(engine, f"{widened} AND category = 'animals'") == 0


def test_four_producers_with_the_same_rows_agree(engine: Engine, wanted: Wanted) -> None:
    totals = [Counts() for _ in range(4)]

    def produce(slot: int) -> None:
        mine = rows(400)
        if slot % 2:
            mine.reverse()
        for start in range(0, 400, 100):
            totals[slot].add(record(engine, mine[start : start + 100], wanted))

    threads = [threading.Thread(target=produce, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total.new_videos for total in totals) == 400
    assert sum(total.queued for total in totals) == 400
    assert one(engine, "SELECT count(*) FROM reelvec.jobs") == 400
