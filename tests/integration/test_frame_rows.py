"""Rows of packs and the objects they name: a row comes before its object and goes before it, and
whatever removes it, the object goes soon after.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db import schema, session
from db.errors import VideoError
from db.frames import holdings, packs, tombstones
from db.frames.packs import PackRow
from db.jobs.catalogue import Wanted
from db.jobs.selection import Selection
from producer import frames
from producer.sources.reading import VideoRow
from tests import ledgering
from tests.ledgering import execute, one
from workers.frames.folder import FolderStore
from workers.frames.store import digest
from workers.frames.sweeping import sweep

DATA = b"the frames of two videos with the same bytes"
NAME = digest(DATA)
ROW = PackRow(1, "notebook", NAME, len(DATA), "recipe", '"v1"', kept=False)


@pytest.fixture
def ledger(engine: Engine) -> Engine:
    """Two videos that nobody works on."""
    encoder_id = ledgering.declare(engine)
    rows = [VideoRow(f"file:///{number}.mp4") for number in (1, 2)]
    ledgering.record(engine, rows, Wanted((encoder_id,), ()))
    return engine


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def recorded(engine: Engine, row: PackRow = ROW) -> bool:
    with session.transaction(engine) as connection:
        return packs.record(connection, row)


def written(engine: Engine, store: FolderStore, row: PackRow = ROW, data: bytes = DATA) -> bool:
    """As a sampler writes: the row, the object, the mark."""
    if not recorded(engine, row):
        return False
    store.put(row.digest, data)
    with session.transaction(engine) as connection:
        return packs.mark_written(connection, row)


def graves(engine: Engine) -> int:
    return int(str(one(engine, "SELECT count(*) FROM reelvec.tombstones")))


def objects(store: FolderStore) -> list[str]:
    return [each.name for each in store.list()]


def take_down(engine: Engine, video_id: int) -> None:
    execute(engine, "DELETE FROM reelvec.videos WHERE video_id = :id", id=video_id)


def test_a_takedown_reaches_the_object_and_spares_what_another_video_names(
    ledger: Engine, store: FolderStore
) -> None:
    twin = replace(ROW, video_id=2)
    assert written(ledger, store)
    assert written(ledger, store, twin)
    other = replace(ROW, policy="uniform", digest=digest(b"u"), size_bytes=1)
    assert written(ledger, store, other, b"u")
    assert sweep(ledger, store) == 0
    take_down(ledger, 1)
    assert graves(ledger) == 2
    assert sweep(ledger, store) == 1
    assert (objects(store), graves(ledger)) == ([NAME], 0)
    take_down(ledger, 2)
    assert sweep(ledger, store) == 1
    assert (objects(store), graves(ledger)) == ([], 0)


def test_a_row_comes_before_its_object(ledger: Engine, store: FolderStore) -> None:
    assert recorded(ledger)
    with session.transaction(ledger) as connection:
        assert [row.written for row in packs.of_video(connection, 1)] == [False]
        assert packs.mark_written(connection, ROW)
        assert [row.written for row in packs.of_video(connection, 1)] == [True]
    take_down(ledger, 2)
    assert not written(ledger, store, replace(ROW, video_id=2)), "the video is gone"
    assert objects(store) == []


def test_an_object_written_after_its_video_went_is_deleted_too(
    ledger: Engine, store: FolderStore
) -> None:
    assert recorded(ledger)
    take_down(ledger, 1)  # while the sampler writes
    assert sweep(ledger, store) == 1
    store.put(NAME, DATA)
    assert objects(store) == [NAME]
    with session.transaction(ledger) as connection:
        assert not packs.mark_written(connection, ROW), "the sampler hears of it"
    assert sweep(ledger, store) == 1
    assert objects(store) == []
    # a sampler that was killed before it could say so: its object is looked for again
    store.put(NAME, DATA)
    assert sweep(ledger, store) == 0
    late = tombstones.AGAIN_SECONDS + 1
    execute(
        ledger,
        "UPDATE reelvec.tombstones SET buried_at = buried_at - make_interval(secs => :late), "
        "due_at = due_at - make_interval(secs => :late)",
        late=late,
    )
    assert sweep(ledger, store) == 1
    assert (objects(store), graves(ledger)) == ([], 0)


def test_another_pack_of_the_same_video_buries_the_first(
    ledger: Engine, store: FolderStore
) -> None:
    kept = replace(ROW, kept=True)
    assert written(ledger, store, kept)
    newer = replace(ROW, digest=digest(b"newer"), etag='"v2"')
    assert written(ledger, store, newer, b"newer")
    with session.transaction(ledger) as connection:
        assert packs.of_video(connection, 1) == [replace(newer, kept=True, written=True)]
    assert sweep(ledger, store) == 1
    assert objects(store) == [newer.digest]
    with session.transaction(ledger) as connection:
        assert packs.drop(connection, 1, ["uniform"]) == 0
        assert packs.drop(connection, 1, ["notebook", "uniform"]) == 1
    assert sweep(ledger, store) == 1
    assert objects(store) == []


def test_a_row_that_comes_back_keeps_its_object(ledger: Engine, store: FolderStore) -> None:
    assert written(ledger, store)
    with session.transaction(ledger) as connection:
        packs.drop(connection, 1, ["notebook"])
    assert written(ledger, store)
    assert sweep(ledger, store) == 0
    assert (objects(store), graves(ledger)) == ([NAME], 0)


@pytest.fixture
def many(ledger: Engine, store: FolderStore) -> int:
    rows = [replace(ROW, policy=f"p{n}", digest=digest(b"%d" % n)) for n in range(5)]
    for number, row in enumerate(rows):
        assert written(ledger, store, row, b"%d" % number)
    take_down(ledger, 1)
    return len(rows)


def test_a_store_that_is_away_is_asked_again(
    ledger: Engine, store: FolderStore, tmp_path: Path, many: int
) -> None:
    elsewhere = tmp_path.with_name("elsewhere")
    tmp_path.rename(elsewhere)
    with pytest.raises(VideoError) as caught:
        sweep(ledger, store)
    assert caught.value.code == "store_unavailable"
    assert graves(ledger) == many, "none is forgotten"
    elsewhere.rename(tmp_path)
    execute(ledger, "UPDATE reelvec.tombstones SET due_at = now()")
    assert sweep(ledger, store) == many
    assert (objects(store), graves(ledger)) == ([], 0)


def test_packs_are_forgotten_page_by_page(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        assert recorded(ledger, replace(ROW, policy=f"p{number}"))
    monkeypatch.setattr(holdings, "PAGE_ROWS", 2)
    with session.transaction(ledger) as connection:
        assert holdings.forget_selected(connection, Selection()) == 2
    assert frames.forget(ledger, Selection()) == 3
    assert one(ledger, "SELECT count(*) FROM reelvec.packs") == 0


def test_one_process_sweeps(ledger: Engine, store: FolderStore, many: int) -> None:
    with session.transaction(ledger) as connection:
        taken = tombstones.take(connection, 2)
        assert taken is not None
        assert len(taken[0]) == 2
        assert sweep(ledger, store) == 0
    assert sweep(ledger, store) == many


def test_nobody_records_a_pack_whose_object_is_being_deleted(
    ledger: Engine, store: FolderStore
) -> None:
    assert written(ledger, store)
    take_down(ledger, 1)
    with session.transaction(ledger) as sweeping:
        assert tombstones.take(sweeping, 1) == ([NAME], [])
        with session.transaction(ledger) as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
            with pytest.raises(DBAPIError, match="lock timeout"):
                packs.record(other, replace(ROW, video_id=2))
            other.rollback()
    assert recorded(ledger, replace(ROW, video_id=2))


def test_a_database_of_before_gets_its_tables_and_loses_nothing(empty_database_url: str) -> None:
    schema.upgrade(empty_database_url, to="0017")
    with session.connect(empty_database_url) as old:
        execute(old, "INSERT INTO reelvec.videos (uri) VALUES ('file:///1.mp4')")
        schema.upgrade(empty_database_url, to="0019")
        assert recorded(old)
        take_down(old, 1)
        assert graves(old) == 1
