"""Rows of one width as a structured numpy array, and back: binary COPY, without an object for each
row.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.errors import ReelvecError

Field = tuple[str, Any]

VIDEO_ID: Field = ("video_id", ">i8")
BLOCK_ROWS = 4096
_TRAILER_BYTES = 2


def read(connection: Connection, statement: str, fields: Sequence[Field]) -> npt.NDArray[np.void]:
    """What `statement` selects, [n], with `fields` in its order: each a name and a big-endian numpy
    type (`>i8`), `real_array(shape)` or `halfvec(dim)`. No cell may be NULL.

    Raises `DBAPIError`, `ReelvecError` where a row is of another width.
    """
    received = _Received()
    copy.run(connection, f"COPY ({statement}) TO STDOUT BINARY", received)
    data = memoryview(received.data)[len(copy.HEADER) : -_TRAILER_BYTES]
    row = _row(fields)
    whole, rest = divmod(len(data), row.itemsize)
    found = np.frombuffer(data[: whole * row.itemsize], row)
    if rest or any(np.any(found[name] != value) for name, value in _constants(fields).items()):
        raise ReelvecError(
            "vectors of one encoder, or scores of one tagger, are not all of one length: reelvec "
            "doctor --data names them"
        )
    return found


def read_blocks(
    connection: Connection, table: str, whose: str, fields: Sequence[Field], *, after: int = 0
) -> Iterator[npt.NDArray[np.void]]:
    """The rows of `table` for which the SQL `whose` holds, from behind the video `after`, ascending
    by video and window, in blocks of about `BLOCK_ROWS`: no video is in two of them.
    """
    columns = [name for name, _ in fields]
    order = "video_id, window_index" if "window_index" in columns else "video_id"
    while True:
        rows = f"FROM {table} WHERE {whose} AND video_id > {after}"
        last = f"SELECT video_id {rows} ORDER BY video_id LIMIT {BLOCK_ROWS}"
        to = connection.execute(text(f"SELECT max(video_id) FROM ({last}) block")).scalar()  # noqa: S608
        if to is None:
            return
        yield read(
            connection,
            f"SELECT {', '.join(columns)} {rows} AND video_id <= {to} ORDER BY {order}",
            fields,
        )
        after = int(to)


def count(connection: Connection, table: str, whose: str, *, to: int | None = None) -> int:
    """How many rows of `table` there are for which `whose` holds, up to the video `to`."""
    limit = "" if to is None else f" AND video_id <= {to}"
    statement = text(f"SELECT count(*) FROM {table} WHERE {whose}{limit}")  # noqa: S608
    return int(connection.execute(statement).scalar_one())


def stream(fields: Sequence[Field], values: Mapping[str, Any], rows: int) -> io.BytesIO:
    """The bytes of `COPY ... FROM STDIN BINARY` for `rows` rows: of each field an array [rows, ...],
    or one value for all.
    """
    block = np.zeros(rows, _row(fields))
    for name, value in _constants(fields).items():
        block[name] = value
    for name, kind in fields:
        if np.dtype(kind).names:
            block[name]["dim"] = block[name]["elements"].shape[1]
            block[name]["elements"] = values[name]
        else:
            block[name] = values[name]
    return io.BytesIO(b"".join((copy.HEADER, block.data, copy.TRAILER)))


def real_array(*shape: int) -> npt.DTypeLike:
    """Postgres' own form of a `real[]` of this shape; its numbers are `numbers(column)`."""
    head = ("head", ">i4", (3 + 2 * len(shape),))
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    return np.dtype([head, ("elements", element, shape)])


def halfvec(dim: int) -> npt.DTypeLike:
    """pgvector's own form of a `halfvec`: dimension, unused, big-endian float16."""
    return np.dtype([("dim", ">u2"), ("unused", ">u2"), ("elements", ">f2", (dim,))])


def numbers(column: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """A column of `real_array(shape)` or `halfvec(dim)` as float32 [n, *shape]."""
    elements = column["elements"]
    return np.asarray(elements["value"] if elements.dtype.names else elements, np.float32)


def _row(fields: Sequence[Field]) -> np.dtype[Any]:
    parts: list[Field] = [("fields", ">i2")]
    for field in fields:
        parts += [(f"{field[0]}_length", ">i4"), field]
    return np.dtype(parts)


def _constants(fields: Sequence[Field]) -> dict[str, int]:
    """What stands in every row."""
    lengths = {f"{name}_length": np.dtype(kind).itemsize for name, kind in fields}
    return {"fields": len(fields), **lengths}


class _Received:
    """What COPY writes to: one growing piece of memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, piece: bytes) -> int:
        self.data += piece
        return len(piece)
