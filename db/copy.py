"""Rows as Postgres binary COPY: one video's 28 vectors take 2.4 ms this way and 16.8 ms as text."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg2  # type: ignore[import-untyped]
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
REAL_OID, TEXT_OID = 700, 25

Encoder = Callable[[Any], bytes]


def boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def smallint(value: int) -> bytes:
    return struct.pack(">h", value)


def bigint(value: int) -> bytes:
    return struct.pack(">q", value)


def real(value: float) -> bytes:
    return struct.pack(">f", value)


def text(value: str) -> bytes:
    return value.encode()


def uuid(value: UUID) -> bytes:
    return value.bytes


def jsonb(value: Mapping[str, Any]) -> bytes:
    return b"\x01" + (json.dumps(value, ensure_ascii=False).encode() if value else b"{}")


def halfvec(values: npt.NDArray[np.float32]) -> bytes:
    """pgvector `halfvec`: dimension, unused, big-endian float16."""
    return struct.pack(">HH", len(values), 0) + values.astype(">f2").tobytes()


def numbers(values: npt.NDArray[np.floating[Any]]) -> bytes:
    """`bytea` of little-endian numbers of their own size, row after row."""
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def real_array(values: npt.NDArray[np.float32]) -> bytes:
    """`real[]` of any number of dimensions, lower bounds 1, no nulls."""
    head = struct.pack(">iii", values.ndim, 0, REAL_OID)
    head += b"".join(struct.pack(">ii", size, 1) for size in values.shape)
    elements = np.empty(values.size, dtype=[("length", ">i4"), ("value", ">f4")])
    elements["length"] = 4
    elements["value"] = values.ravel()
    return head + elements.tobytes()


def text_array(values: Sequence[str]) -> bytes:
    """`text[]` of one dimension, lower bound 1, no nulls."""
    parts = [value.encode() for value in values]
    head = struct.pack(">iiiii", 1, 0, TEXT_OID, len(parts), 1)
    return head + b"".join(struct.pack(">i", len(part)) + part for part in parts)


def stream(encoders: Sequence[Encoder], rows: Iterable[Sequence[Any]]) -> io.BytesIO:
    """The bytes of `COPY ... FROM STDIN BINARY` for `rows`; None becomes NULL."""
    out = io.BytesIO()
    out.write(HEADER)
    write, length = out.write, struct.Struct(">i").pack  # looked up once, not for every field
    count = struct.pack(">h", len(encoders))
    for row in rows:
        write(count)
        for encode, value in zip(encoders, row, strict=True):
            if value is None:
                write(NULL)
            else:
                data = encode(value)
                write(length(len(data)))
                write(data)
    out.write(TRAILER)
    out.seek(0)
    return out


def copy_rows(
    connection: Connection,
    table: str,
    columns: Mapping[str, Encoder],
    rows: Iterable[Sequence[Any]],
) -> None:
    """COPY `rows` (in the order of `columns`) into `table` inside the connection's transaction.
    Raises `DBAPIError`.
    """
    data = stream(tuple(columns.values()), rows)
    run(connection, f"COPY {table} ({', '.join(columns)}) FROM STDIN BINARY", data)


class Written(Protocol):
    """What COPY writes to."""

    def write(self, piece: bytes, /) -> int: ...


def run(connection: Connection, statement: str, file: IO[bytes] | Written) -> int:
    """Run a COPY from or to `file`; returns how many rows went through.

    Raises `DBAPIError` like any statement: SQLAlchemy knows nothing of COPY, so the driver's own
    are wrapped here.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    cursor = driver.cursor()
    try:
        cursor.copy_expert(statement, file)
        return int(cursor.rowcount)
    except psycopg2.Error as error:
        if driver.closed:
            connection.invalidate(error)
        wrapped = DBAPIError.instance(
            statement, None, error, psycopg2.Error, dialect=connection.dialect
        )
        raise wrapped from error
    finally:
        cursor.close()
