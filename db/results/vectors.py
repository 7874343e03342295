"""Vectors in bulk, as numpy arrays: binary COPY in blocks, decoded without an object for each row.

A million vectors of 768 numbers become one float32 array; psycopg2's cursors would hand out a
million texts. Ids, vectors and count are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine

from db import session
from db.encoders import Encoder
from db.errors import UsageError
from db.results import arrays
from db.results.arrays import Field


@dataclass(frozen=True)
class Pooled:
    """One vector a video: `video_ids` int64 [n], ascending; `vectors` float32 [n, d] of what is
    stored as float16.
    """

    video_ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """One vector a window, in the order of videos and windows: `video_ids` int64 [n],
    `window_index` int16 [n], `spans_seconds` float32 [n, 2], `vectors` float32 [n, d] of what was
    stored as float16.
    """

    video_ids: npt.NDArray[np.int64]
    window_index: npt.NDArray[np.int16]
    spans_seconds: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]


@contextmanager
def snapshot(database: Engine) -> Iterator[Connection]:
    """A transaction that sees the rows as they are at one moment, and writes nothing."""
    with session.transaction(database) as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


def count(
    connection: Connection, encoder: Encoder, *, windows: bool = False, to: int | None = None
) -> int:
    """How many vectors there are of a bound encoder, up to the video `to`."""
    table = "window_embeddings" if windows else "video_embeddings"
    return arrays.count(connection, *_of(table, encoder), to=to)


def dim(encoder: Encoder) -> int:
    """How many numbers its vectors have. Raises `UsageError` for an encoder without any."""
    if encoder.dim is None:
        raise UsageError(
            f"{encoder.name} has no vectors yet: no worker has loaded its weights; `reelvec "
            "status` says what its videos wait for"
        )
    return encoder.dim


def stored(encoder: Encoder) -> Field:
    """How a column `embedding` holds the vectors of a bound encoder."""
    return "embedding", arrays.halfvec(dim(encoder))


def pooled(connection: Connection, encoder: Encoder) -> Pooled:
    """All vectors of a bound encoder, inside a `snapshot`."""
    rows = count(connection, encoder)
    all_of = Pooled(np.empty(rows, np.int64), np.empty((rows, dim(encoder)), np.float32))
    at = 0
    for block in pooled_blocks(connection, encoder):
        end = at + len(block.video_ids)
        all_of.video_ids[at:end], all_of.vectors[at:end] = block.video_ids, block.vectors
        at = end
    return all_of


def pooled_blocks(connection: Connection, encoder: Encoder, *, after: int = 0) -> Iterator[Pooled]:
    """The same in blocks, from behind the video `after`."""
    fields = (arrays.VIDEO_ID, stored(encoder))
    for found in arrays.read_blocks(
        connection, *_of("video_embeddings", encoder), fields, after=after
    ):
        yield Pooled(found["video_id"].astype(np.int64), arrays.numbers(found["embedding"]))


def window_blocks(connection: Connection, encoder: Encoder, *, after: int = 0) -> Iterator[Windows]:
    """The windows' vectors in blocks."""
    fields = (
        arrays.VIDEO_ID,
        ("window_index", ">i2"),
        ("start_seconds", ">f4"),
        ("end_seconds", ">f4"),
        stored(encoder),
    )
    whose = _of("window_embeddings", encoder)
    for found in arrays.read_blocks(connection, *whose, fields, after=after):
        yield Windows(
            found["video_id"].astype(np.int64),
            found["window_index"].astype(np.int16),
            np.stack([found["start_seconds"], found["end_seconds"]], axis=1).astype(np.float32),
            arrays.numbers(found["embedding"]),
        )


def all_windows(connection: Connection, encoder: Encoder) -> Windows:
    """All vectors of windows of a bound encoder, inside a `snapshot`."""
    rows = count(connection, encoder, windows=True)
    found = Windows(
        np.empty(rows, np.int64),
        np.empty(rows, np.int16),
        np.empty((rows, 2), np.float32),
        np.empty((rows, dim(encoder)), np.float32),
    )
    at = 0
    for block in window_blocks(connection, encoder):
        end = at + len(block.video_ids)
        for name, values in vars(block).items():
            getattr(found, name)[at:end] = values
        at = end
    return found


def _of(table: str, encoder: Encoder) -> tuple[str, str]:
    return f"reelvec.{table}", f"encoder_id = {encoder.encoder_id}"
