"""Maps: where the vectors of an encoder lie in two dimensions.

A map that is made anew is written beside the one that is shown, in many short transactions, and
takes its place when it is whole. A point refers to its vector and goes with it, so every point is
of a vector that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from db import copy
from db.encoders import Encoder
from db.errors import BusyError, UsageError
from db.results import arrays, vectors
from db.results.linear import Floats


@dataclass(frozen=True)
class Axes:
    """Principal axes: `mean` float32 [d], `axes` float32 [k, d], and the share of the variance that
    the first two hold, from 0 to 1.
    """

    mean: Floats
    axes: Floats
    variance_share: float


@dataclass(frozen=True)
class Map:
    """`vectors`: of how many it was made. `axes`: those of its two dimensions, by which further
    points are placed; None where its method has none.
    """

    map_id: int
    method: str
    vectors: int
    axes: Axes | None
    made_at: datetime


@dataclass(frozen=True)
class Made:
    """Vectors with the moment each was made at, as Postgres counts it: `video_ids` int64 [n],
    ascending; `made_at` int64 [n] in microseconds; `vectors` float32 [n, d].
    """

    video_ids: npt.NDArray[np.int64]
    made_at: npt.NDArray[np.int64]
    vectors: Floats


_CURRENT = text("""
SELECT map_id, method, vectors, mean, axes, variance_share, made_at FROM reelvec.maps
WHERE encoder_id = :encoder_id AND is_whole ORDER BY map_id DESC LIMIT 1
""")


def current(connection: Connection, encoder: Encoder) -> Map | None:
    """The map that is shown of an encoder; None: there is none yet."""
    row = connection.execute(_CURRENT, {"encoder_id": encoder.encoder_id}).first()
    if row is None:
        return None
    axes = None
    if row.axes is not None:
        mean, kept = np.array(row.mean, np.float32), np.array(row.axes, np.float32)
        axes = Axes(mean, kept, row.variance_share)
    return Map(row.map_id, row.method, row.vectors, axes, row.made_at)


def count(connection: Connection, encoder: Encoder, map_id: int) -> int:
    """How many points a map has."""
    whose = f"encoder_id = {encoder.encoder_id} AND map_id = {map_id}"
    return arrays.count(connection, "reelvec.map_points", whose)


def blocks(
    connection: Connection, encoder: Encoder, *, without: int | None = None
) -> Iterator[Made]:
    """All vectors of a bound encoder in blocks, or those that have no point on the map of the id
    `without`; inside a snapshot.
    """
    whose = f"encoder_id = {encoder.encoder_id}"
    if without is not None:
        whose += (
            f" AND NOT EXISTS (SELECT FROM reelvec.map_points p WHERE p.map_id = {without}"
            " AND p.encoder_id = m.encoder_id AND p.video_id = m.video_id)"
        )
    fields = (arrays.VIDEO_ID, ("created_at", ">i8"), vectors.stored(encoder))
    for found in arrays.read_blocks(connection, "reelvec.video_embeddings m", whose, fields):
        yield Made(
            found["video_id"].astype(np.int64),
            found["created_at"].astype(np.int64),
            arrays.numbers(found["embedding"]),
        )


def places(
    connection: Connection, encoder: Encoder, map_id: int, video_ids: npt.NDArray[np.int64]
) -> Floats:
    """float32 [n, 2], x and y of these videos, which ascend; NaN where one has no point."""
    found = arrays.read(
        connection,
        f"SELECT video_id, x, y FROM reelvec.map_points WHERE encoder_id = {encoder.encoder_id}"  # noqa: S608
        f" AND map_id = {map_id} AND video_id BETWEEN {video_ids[0]} AND {video_ids[-1]}",
        (arrays.VIDEO_ID, ("x", ">f4"), ("y", ">f4")),
    )
    made = np.full((len(video_ids), 2), np.nan, np.float32)
    at = np.searchsorted(video_ids, found["video_id"])
    known = video_ids[at] == found["video_id"]
    made[at[known]] = np.stack([found["x"], found["y"]], axis=1)[known]
    return made


_BEGIN = text("""
INSERT INTO reelvec.maps (encoder_id, method, vectors, mean, axes, variance_share, made_by)
VALUES (:encoder_id, :method, :vectors, CAST(:mean AS real[]), CAST(:axes AS real[]), :variance_share, :who)
RETURNING map_id
""")


def begin(
    connection: Connection,
    encoder: Encoder,
    *,
    method: str,
    vectors: int,
    axes: Axes | None,
    who: str,
) -> int:
    """A map that nobody sees yet. What a run that was broken off has left is removed."""
    connection.execute(
        text("DELETE FROM reelvec.maps WHERE encoder_id = :encoder_id AND NOT is_whole"),
        {"encoder_id": encoder.encoder_id},
    )
    facts = {
        "encoder_id": encoder.encoder_id,
        "method": method,
        "vectors": vectors,
        "mean": axes and axes.mean.tolist(),
        "axes": axes and axes.axes.tolist(),
        "variance_share": axes and axes.variance_share,
        "who": who,
    }
    return int(connection.execute(_BEGIN, facts).scalar_one())


_GATHER = """
CREATE TEMPORARY TABLE placed (video_id bigint, created_at timestamptz, x real, y real) ON COMMIT DROP
"""
# a vector that somebody has just deleted or made anew gets no point
_WRITE = text("""
INSERT INTO reelvec.map_points (encoder_id, video_id, map_id, x, y)
SELECT m.encoder_id, m.video_id, maps.map_id, g.x, g.y
FROM pg_temp.placed g JOIN reelvec.videos v USING (video_id) JOIN reelvec.video_embeddings m USING (video_id, created_at)
JOIN reelvec.maps ON maps.map_id = :map_id AND maps.encoder_id = m.encoder_id
ORDER BY v.video_id FOR KEY SHARE OF v
ON CONFLICT DO NOTHING
""")
_FIELDS = (arrays.VIDEO_ID, ("created_at", ">i8"), ("x", ">f4"), ("y", ">f4"))


def write(connection: Connection, map_id: int, made: Made, places: Floats) -> int:
    """Put the vectors `made` on a map at `places` float32 [n, 2]; returns how many are there still.
    In a transaction of its own: it holds up who deletes one of these vectors. Raises `BusyError`
    where somebody did so at this moment: try again.
    """
    connection.execute(text(_GATHER))
    values = {
        "video_id": made.video_ids,
        "created_at": made.made_at,
        "x": places[:, 0],
        "y": places[:, 1],
    }
    rows = arrays.stream(_FIELDS, values, len(places))
    copy.run(connection, "COPY pg_temp.placed FROM STDIN BINARY", rows)
    try:
        return connection.execute(_WRITE, {"map_id": map_id}).rowcount
    except IntegrityError as error:
        raise BusyError("a worker made a vector anew while its point was written") from error


def show(connection: Connection, encoder: Encoder, map_id: int) -> None:
    """From now on this is the encoder's map; those before it go. Raises `UsageError` where somebody
    else has begun another one meanwhile.
    """
    facts = {"map_id": map_id, "encoder_id": encoder.encoder_id}
    shown = connection.execute(
        text("UPDATE reelvec.maps SET is_whole = true WHERE map_id = :map_id"), facts
    )
    if not shown.rowcount:
        raise UsageError(
            f"another reelvec map of {encoder.name} was begun meanwhile: that one makes the map"
        )
    connection.execute(
        text("DELETE FROM reelvec.maps WHERE encoder_id = :encoder_id AND map_id <> :map_id"), facts
    )
