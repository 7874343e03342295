"""Vectors in bulk, as numpy arrays: binary COPY in blocks, decoded without an object for each row.

A million vectors of 768 numbers become one float32 array; psycopg2's cursors would hand out a
million texts. Ids, vectors and count are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, text

from db import copy, session
from db.encoders import Encoder
from db.errors import UsageError

BLOCK_ROWS = 8192
#: What a row of binary COPY begins with, and what stands before each of its fields.
_FIELDS, _LENGTH = (">i2", ">i4")
_TRAILER_BYTES = 2


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


def count(connection: Connection, encoder: Encoder, *, windows: bool = False) -> int:
    """How many vectors there are of a bound encoder."""
    table = "window_embeddings" if windows else "video_embeddings"
    statement = f"SELECT count(*) FROM reelvec.{table} WHERE encoder_id = :id"  # noqa: S608
    return int(connection.execute(text(statement), {"id": encoder.encoder_id}).scalar_one())


def pooled(connection: Connection, encoder: Encoder) -> Pooled:
    """All vectors of a bound encoder, inside a `snapshot`."""
    rows = count(connection, encoder)
    all_of = Pooled(np.empty(rows, np.int64), np.empty((rows, _dim(encoder)), np.float32))
    at = 0
    for block in pooled_blocks(connection, encoder):
        end = at + len(block.video_ids)
        all_of.video_ids[at:end], all_of.vectors[at:end] = block.video_ids, block.vectors
        at = end
    return all_of


def pooled_blocks(connection: Connection, encoder: Encoder, *, after: int = 0) -> Iterator[Pooled]:
    """The same in blocks of at most `BLOCK_ROWS` videos, from behind the video `after`."""
    fields: list[tuple[str, Any]] = [("video_id", ">i8"), *_vector(_dim(encoder))]
    for found in _blocks(connection, _POOLED, encoder, fields, after):
        yield Pooled(found["video_id"].astype(np.int64), found["vector"].astype(np.float32))


def window_blocks(connection: Connection, encoder: Encoder, *, after: int = 0) -> Iterator[Windows]:
    """The windows' vectors in blocks of at most `BLOCK_ROWS` videos."""
    fields: list[tuple[str, Any]] = [
        ("video_id", ">i8"),
        ("window_index", ">i2"),
        ("start", ">f4"),
        ("end", ">f4"),
        *_vector(_dim(encoder)),
    ]
    for found in _blocks(connection, _WINDOWS, encoder, fields, after):
        yield Windows(
            found["video_id"].astype(np.int64),
            found["window_index"].astype(np.int16),
            np.stack([found["start"], found["end"]], axis=1).astype(np.float32),
            found["vector"].astype(np.float32),
        )


_POOLED = """
SELECT video_id, embedding FROM reelvec.video_embeddings
WHERE encoder_id = {encoder_id} AND video_id > {after} AND video_id <= {to} ORDER BY video_id
"""
_WINDOWS = """
SELECT video_id, window_index, start_seconds, end_seconds, embedding FROM reelvec.window_embeddings
WHERE encoder_id = {encoder_id} AND video_id > {after} AND video_id <= {to}
ORDER BY video_id, window_index
"""
_BOUNDARY = text("""
SELECT max(video_id) FROM (
  SELECT video_id FROM reelvec.video_embeddings WHERE encoder_id = :encoder_id AND video_id > :after
  ORDER BY video_id LIMIT :rows) block
""")


def _blocks(
    connection: Connection,
    statement: str,
    encoder: Encoder,
    fields: list[tuple[str, Any]],
    after: int,
) -> Iterator[npt.NDArray[np.void]]:
    """Rows of `statement` as structured arrays. All are of one width, as vectors of one encoder
    are: a field is a length and its bytes.
    """
    row: list[tuple[str, Any]] = [("fields", _FIELDS)]
    for field in fields:
        if field[0] not in ("unused", "vector"):
            row.append((f"{field[0]}_length", _LENGTH))
        row.append(field)
    dtype = np.dtype(row)
    while True:
        facts = {"encoder_id": encoder.encoder_id, "after": after, "rows": BLOCK_ROWS}
        to = connection.execute(_BOUNDARY, facts).scalar()
        if to is None:
            return
        chosen = statement.format(encoder_id=encoder.encoder_id, after=after, to=to)
        received = _Received()
        copy.run(connection, f"COPY ({chosen}) TO STDOUT BINARY", received)
        data = memoryview(received.data)[len(copy.HEADER) : -_TRAILER_BYTES]
        yield np.frombuffer(data, dtype)
        after = int(to)


class _Received:
    """What COPY writes to: one growing piece of memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, piece: bytes) -> int:
        self.data += piece
        return len(piece)


def _vector(dim: int) -> list[tuple[str, Any]]:
    """pgvector's own form of a halfvec: dimension, unused, big-endian float16."""
    return [("dim", ">u2"), ("unused", ">u2"), ("vector", ">f2", (dim,))]  # type: ignore[list-item]


def _dim(encoder: Encoder) -> int:
    if encoder.dim is None:
        raise UsageError(
            f"{encoder.name} has no vectors yet: no worker has loaded its weights; `reelvec "
            "status` says what its videos wait for"
        )
    return encoder.dim
