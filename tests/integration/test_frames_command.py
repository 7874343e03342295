"""`reelvec frames`, on a database and a folder that do not agree."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from db import session
from db.frames import packs
from db.frames.packs import PackRow
from db.jobs.catalogue import Wanted
from producer.sources.reading import VideoRow
from tests import ledgering
from tests.conftest import Desk
from tests.ledgering import execute, one
from workers.frames.folder import FolderStore
from workers.frames.store import digest

WHOLE, DAMAGED, CUT, MISSING = b"whole", b"damaged", b"cut off", b"missing"
ORPHANED, SOON = b"nobody's", b"somebody's soon"
ORPHAN, YOUNG = digest(ORPHANED), digest(SOON)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "frames"
    made.mkdir()
    return made


@pytest.fixture
def stored(engine: Engine, folder: Path) -> FolderStore:
    """Four videos with packs, of which one is good; and files that no row names."""
    rows = [
        VideoRow(f"file:///{number}.mp4", category="films" if number == 1 else None)
        for number in range(1, 6)
    ]
    ledgering.record(engine, rows, Wanted((ledgering.declare(engine),), ()))
    store = FolderStore(folder)
    for video_id, data in enumerate((WHOLE, DAMAGED, CUT, MISSING), 1):
        row = PackRow(video_id, "notebook", digest(data), len(data), "r", None, kept=video_id == 1)
        with session.transaction(engine) as connection:
            packs.record(connection, row)
        store.put(row.digest, data)
        with session.transaction(engine) as connection:
            packs.mark_written(connection, row)
        if data is DAMAGED:
            (folder / row.digest[:2] / row.digest).write_bytes(b"DAMAGED")
        elif data is CUT:
            (folder / row.digest[:2] / row.digest).write_bytes(b"cut")
        elif data is MISSING:
            store.delete(row.digest)
    with session.transaction(engine) as connection:
        row = PackRow(5, "notebook", digest(b"never"), 5, "r", None, kept=False)
        packs.record(connection, row)
        packs.record(connection, replace(row, policy="uniform"))
    execute(
        engine,
        "UPDATE reelvec.packs SET recorded_at = now() - interval '2 hours' WHERE policy = 'uniform'",
    )
    store.put(ORPHAN, ORPHANED)
    store.put(YOUNG, SOON)
    unfinished = folder / ORPHAN[:2] / f"{ORPHAN}.{'a' * 32}.unfinished"
    unfinished.write_bytes(b"x")
    for path in (unfinished, folder / ORPHAN[:2] / ORPHAN):
        os.utime(path, (1, 1))
    return store


def test_rows_and_objects_are_held_against_each_other_and_put_right(
    desk: Desk, engine: Engine, folder: Path, stored: FolderStore
) -> None:
    assert "REELVEC_FRAMES is not set" in desk.run("reelvec", "frames", "verify", expect=2).stderr

    def run(*words: str, expect: int = 0) -> Any:
        said = desk.run(
            "reelvec", "frames", *words, "--json", expect=expect, REELVEC_FRAMES=str(folder)
        ).stdout
        return [json.loads(line) for line in said.splitlines()]

    held = {each["policy"]: each for each in run("list")}
    assert (held["notebook"]["packs"], held["notebook"]["kept"]) == (5, 1)
    assert [each["packs"] for each in run("list", "--category", "films")] == [1]

    (found,) = run("verify", "--read", expect=1)
    assert found["missing"] == [digest(MISSING)]
    assert sorted(found["damaged"]) == sorted([digest(DAMAGED), digest(CUT)])
    assert found["orphans"] == [ORPHAN]
    assert found["unfinished"] == [f"{ORPHAN}.{'a' * 32}.unfinished"]
    assert (found["never_written"], found["objects"]) == (1, 5)
    shown = desk.run("reelvec", "frames", "verify", expect=1, REELVEC_FRAMES=str(folder)).stdout
    assert f"missing\t1\t{digest(MISSING)}" in shown

    run("purge")  # which reads no object: it finds all but the damaged one
    (found,) = run("verify", "--read", expect=1)
    assert [found[name] for name in ("missing", "orphans", "unfinished", "never_written")] == [
        [], [], [], 0,
    ]  # fmt: skip
    assert found["damaged"] == [digest(DAMAGED)]
    assert stored.get(digest(WHOLE)) == WHOLE
    assert {each.name for each in stored.list()} == {digest(WHOLE), digest(DAMAGED), YOUNG}

    execute(engine, "DELETE FROM reelvec.videos WHERE video_id = 2")  # a takedown
    assert [each["forgotten"] for each in run("purge", "--category", "films")] == [1]
    assert {each.name for each in stored.list()} == {YOUNG}
    assert one(engine, "SELECT array_agg(video_id) FROM reelvec.packs") == [5]
    assert [each["forgotten"] for each in run("purge", "--all")] == [1]
    run("verify")
