"""Rows of binary COPY as numpy arrays, and back, without a Python object for each: all rows of a
block have one width, as vectors of one encoder have.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.errors import ReelvecError

BLOCK_ROWS = 4096
_TRAILER_BYTES = 2
_COUNT = "count of fields"


@dataclass(frozen=True)
class Column:
    """One field of every row: `number` is its big-endian type, `shape` that of its numbers in one
    row. `before` are the 2- or 4-byte integers that Postgres writes before them; of a real[] each
    number has its `length` too.
    """

    name: str
    number: str
    shape: tuple[int, ...] = ()
    before: tuple[tuple[str, int], ...] = ()
    spaced: bool = False

    @property
    def layout(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        one: Any = [("length", ">i4"), ("value", self.number)] if self.spaced else self.number
        head = [(f"{self.name} {i}", kind, ()) for i, (kind, _) in enumerate(self.before)]
        return [(f"{self.name} length", ">i4", ()), *head, (self.name, one, self.shape)]

    @property
    def constants(self) -> dict[str, int]:
        """What stands in every row, by the name of its part of the layout."""
        head = {f"{self.name} {i}": value for i, (_, value) in enumerate(self.before)}
        row = np.dtype(self.layout)
        return {f"{self.name} length": row.itemsize - 4, **head}


def numbers(name: str, number: str) -> Column:
    """A column of plain numbers: `>i8` of bigint, `>f4` of real, or bytes, `V16` of uuid."""
    return Column(name, number)


VIDEO_ID = numbers("video_id", ">i8")


def vectors(name: str, number: str, dim: int) -> Column:
    """pgvector's own form: dimension, unused, numbers; `>f4` of vector, `>f2` of halfvec."""
    return Column(name, number, (dim,), ((">u2", dim), (">u2", 0)))


def arrays(name: str, shape: tuple[int, ...]) -> Column:
    """A real[] of these dimensions, without NULLs."""
    sizes = [part for size in shape for part in ((">i4", size), (">i4", 1))]
    head = ((">i4", len(shape)), (">i4", 0), (">i4", copy.REAL_OID))
    return Column(name, ">f4", shape, (*head, *sizes), spaced=True)


def read(
    connection: Connection, table: str, whose: str, columns: Sequence[Column], *, after: int = 0
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The rows of `table` for which the SQL `whose` holds, ascending by video (and window):
    in blocks of about `BLOCK_ROWS`, no video in two of them, from behind
    the video `after`.

    A block has its rows by column, big-endian [n, *shape], as views of one piece of memory. Raises
    `ReelvecError` where a row is of another width: a vector of another dimension.
    """
    order = "video_id, window_index" if "window_index" in names(columns) else "video_id"
    while True:
        where = f"FROM {table} WHERE {whose} AND video_id > {after}"
        last = text(
            f"SELECT max(video_id) FROM (SELECT video_id {where} ORDER BY video_id "  # noqa: S608
            f"LIMIT {BLOCK_ROWS}) block"
        )
        to = connection.execute(last).scalar()
        if to is None:
            return
        chosen = f"SELECT {', '.join(names(columns))} {where} AND video_id <= {to} ORDER BY {order}"
        yield _read(connection, chosen, columns)
        after = int(to)


def count(connection: Connection, table: str, whose: str, *, to: int | None = None) -> int:
    """How many rows of `table` there are for which `whose` holds, up to the video `to`."""
    limit = "" if to is None else f" AND video_id <= {to}"
    statement = text(f"SELECT count(*) FROM {table} WHERE {whose}{limit}")  # noqa: S608
    return int(connection.execute(statement).scalar_one())


def names(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns]


def _read(
    connection: Connection, query: str, columns: Sequence[Column]
) -> dict[str, npt.NDArray[Any]]:
    received = _Received()
    copy.run(connection, f"COPY ({query}) TO STDOUT BINARY", received)
    data = memoryview(received.data)[len(copy.HEADER) : -_TRAILER_BYTES]
    row = _row(columns)
    whole, rest = divmod(len(data), row.itemsize)
    found = np.frombuffer(data[: whole * row.itemsize], row)
    if rest or any(np.any(found[name] != value) for name, value in _constants(columns).items()):
        raise ReelvecError(
            "rows of one encoder or tagger are not all of one size: reelvec doctor --data names "
            "them"
        )
    return {
        column.name: found[column.name]["value"] if column.spaced else found[column.name]
        for column in columns
    }


def write(
    connection: Connection,
    table: str,
    columns: Sequence[Column],
    values: Mapping[str, npt.NDArray[Any]],
) -> None:
    """COPY rows into `table`: `values` of each column are [n, *shape], or one for all rows."""
    rows = max(len(value) for value in values.values() if value.ndim)
    block = np.zeros(rows, _row(columns))
    for name, constant in _constants(columns).items():
        block[name] = constant
    for column in columns:
        if column.spaced:
            block[column.name]["length"] = 4
            block[column.name]["value"] = values[column.name]
        else:
            block[column.name] = values[column.name]
    sent = io.BytesIO(b"".join((copy.HEADER, block.data, copy.TRAILER)))
    copy.run(connection, f"COPY {table} ({', '.join(names(columns))}) FROM STDIN BINARY", sent)


def _row(columns: Sequence[Column]) -> np.dtype[Any]:
    return np.dtype([(_COUNT, ">i2"), *(part for column in columns for part in column.layout)])


def _constants(columns: Sequence[Column]) -> dict[str, int]:
    found = {_COUNT: len(columns)}
    for column in columns:
        found |= column.constants
    return found


class _Received:
    """What COPY writes to: one growing piece of memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, piece: bytes) -> int:
        self.data += piece
        return len(piece)
