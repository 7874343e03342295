"""Rows of one width as a structured numpy array: binary COPY, decoded without an object for each
row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from db import copy

Field = tuple[str, Any]

_TRAILER_BYTES = 2


def read(connection: Connection, statement: str, fields: Sequence[Field]) -> npt.NDArray[np.void]:
    """What `statement` selects, [n], with `fields` in its order: each a name and a big-endian numpy
    type (`>i8`), or `real_array(shape)`. No cell may be NULL. Raises `DBAPIError`.
    """
    row: list[Field] = [("fields", ">i2")]
    for field in fields:
        row += [(f"{field[0]}_length", ">i4"), field]
    received = _Received()
    copy.run(connection, f"COPY ({statement}) TO STDOUT BINARY", received)
    data = memoryview(received.data)[len(copy.HEADER) : -_TRAILER_BYTES]
    return np.frombuffer(data, np.dtype(row))


def real_array(*shape: int) -> npt.DTypeLike:
    """Postgres' own form of a `real[]` of this shape; its numbers are `numbers(column)`."""
    head = ("head", ">i4", (3 + 2 * len(shape),))
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    return np.dtype([head, ("elements", element, shape)])


def numbers(column: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """A column of `real_array(shape)` as float32 [n, *shape]."""
    return np.asarray(column["elements"]["value"], np.float32)


class _Received:
    """What COPY writes to: one growing piece of memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, piece: bytes) -> int:
        self.data += piece
        return len(piece)
