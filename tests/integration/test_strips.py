"""The picture of a video: one for each version, written with its vectors and gone with them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image
from sqlalchemy import Engine

from db import strips
from db.errors import ErrorClass
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome
from db.media import Media, MediaFacts
from tests import media
from tests.conftest import Desk
from tests.ledgering import Row, claim, declare, execute, finish, one, read, record, vectors, worker
from workers.sampling import drawing

FACTS = MediaFacts("h264", 64, 48, 25.0, 1.5)


def picture(engine: Engine, video_id: int = 1) -> bytes | None:
    return read(engine, lambda connection: strips.fetch(connection, video_id))


def end(engine: Engine, outcome: Outcome) -> str | None:
    claimed = claim(engine, 1, worker(engine))
    assert claimed is not None
    return finish(engine, claimed, outcome)


def again(engine: Engine) -> None:
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending', force = true WHERE video_id = 1")


def test_three_frames_stand_side_by_side_in_the_order_of_time() -> None:
    frames = np.zeros((96, 224, 224, 3), np.uint8)
    for slot, colour in zip(
        drawing.STRIP_SLOTS, ((250, 0, 0), (0, 250, 0), (0, 0, 250)), strict=True
    ):
        frames[slot] = colour
    drawn = Image.open(io.BytesIO(drawing.strip(frames)))
    assert (drawn.format, drawn.size) == ("WEBP", (336, 112))
    middles = np.asarray(drawn.convert("RGB"))[56, 56::112]
    assert np.argmax(middles, axis=1).tolist() == [0, 1, 2]
    assert middles.max(axis=1).min() > 200


def test_a_version_has_one_picture_for_as_long_as_its_vectors_last(engine: Engine) -> None:
    probe = declare(engine)
    record(engine, [Row("file:///v")], Wanted((probe,), ()))
    made = Outcome((vectors(probe),), media=Media("a", 9, FACTS, 0.0, 1), strip=b"first")
    assert end(engine, made) == "done"
    assert picture(engine) == b"first"
    again(engine)
    assert end(engine, replace(made, strip=b"the same version")) == "done"
    assert picture(engine) == b"first"
    again(engine)
    assert end(engine, replace(made, strip=None)) == "done"
    assert picture(engine) == b"first"
    again(engine)
    newer = replace(made, media=Media("b", 9, FACTS, 0.0, 1), strip=b"second")
    assert end(engine, newer) == "done"
    assert picture(engine) == b"second"
    again(engine)
    damaged = Failure("sample", "damaged", ErrorClass.PERMANENT, "noise")
    assert end(engine, Outcome(failure=damaged, media=newer.media)) == "failed"
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 0
    assert picture(engine) is None


def test_whoever_lost_the_video_writes_no_picture_and_one_goes_with_its_video(
    engine: Engine,
) -> None:
    probe = declare(engine)
    record(engine, [Row("file:///v")], Wanted((probe,), ()))
    made = Outcome((vectors(probe),), media=Media("a", 9, FACTS, 0.0, 1), strip=b"mine")
    claimed = claim(engine, 1, worker(engine))
    assert claimed is not None
    assert claimed.wants_strip
    assert finish(engine, replace(claimed, token=claimed.token + 1), made) is None
    assert picture(engine) is None
    assert finish(engine, claimed, made) == "done"
    execute(engine, "DELETE FROM reelvec.videos")
    assert one(engine, "SELECT count(*) FROM reelvec.strips") == 0


def test_none_is_wanted_where_the_last_enqueue_said_so(engine: Engine) -> None:
    probe, other = declare(engine), declare(engine, "other")
    record(engine, [Row("file:///v")], Wanted((probe,), (), strips=False))
    claimed = claim(engine, 1, worker(engine))
    assert claimed is not None
    assert not claimed.wants_strip
    assert finish(engine, claimed, Outcome((vectors(probe),))) == "done"
    record(engine, [Row("file:///v")], Wanted((other,), ()))
    widened = claim(engine, 1, worker(engine))
    assert widened is not None
    assert widened.wants_strip
    # as an enqueue of the version before records a job
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending', wants_strip = NULL")
    older = claim(engine, 1, worker(engine))
    assert older is not None
    assert older.wants_strip


def test_enqueue_is_told_that_none_is_wanted(desk: Desk, engine: Engine) -> None:
    media.empty(desk.folder / "v.mp4")
    told = ("enqueue", "v.mp4", "--backbone", "probe", "--weights", "random-tiny")
    desk.run(*told, "--no-thumbnails")
    assert one(engine, "SELECT wants_strip FROM reelvec.jobs") is False


def test_all_of_them_are_removed_by_one_command(desk: Desk, engine: Engine) -> None:
    record(engine, [Row("file:///v")], Wanted((declare(engine),), ()))
    execute(engine, "INSERT INTO reelvec.strips VALUES (1, 'a', 'picture')")
    refused = desk.run("reelvec", "db", "purge", expect=2)
    assert "reelvec db purge --thumbnails" in refused.stderr
    assert picture(engine) == b"picture"
    assert "removed 1 picture: " in desk.run("reelvec", "db", "purge", "--thumbnails").stderr
    assert picture(engine) is None
