"""Parquet manifests, read in batches: the same columns as CSV, with the types they have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from db.errors import UsageError
from producer.manifest import Context, RowError, VideoRow, check_columns, check_storable, video

BATCH_ROWS = 1_000


def read_parquet(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of a Parquet manifest; columns as in `producer.manifest.read_csv`.

    Raises `UsageError` at once, before any row: pyarrow is not installed, no Parquet file, no uri column, a column twice.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(f"{path}: reading .parquet needs pyarrow; pip install 'reelvec[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path} is not a readable Parquet file: {error}") from error
    check_columns(path, file.schema_arrow.names)
    return _rows(path, file, context)


def _rows(path: Path, file: Any, context: Context) -> Iterator[VideoRow | RowError]:
    number = 0
    with file:
        for batch in file.iter_batches(BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                try:
                    yield video(_present(values), list(values), context)
                except ValueError as error:
                    yield RowError(f"{path.name} row {number}", str(error))


def _present(values: dict[str, Any]) -> dict[str, Any]:
    """A row's values without missing ones, as JSON can hold them. Raises `ValueError`: unstorable text, bytes."""
    plain = {name: _plain(name, value) for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None and value != ""}


def _plain(name: str, value: Any) -> Any:
    match value:
        case str():
            check_storable(name, value)
            plain: Any = value.strip()
        case float() if math.isnan(value):
            plain = None
        case float() if value.is_integer():  # pandas makes floats of integers with gaps: 12.0 is the id 12
            plain = int(value)
        case list():
            plain = [_plain(name, item) for item in value]
        case dict():
            plain = {key: _plain(name, item) for key, item in value.items()}
        case datetime() | date() | time():
            plain = value.isoformat()
        case bytes():
            raise ValueError(f"column {name!r} holds bytes; write it as text or leave it out")
        case None | bool() | int() | float():
            plain = value
        case _:
            plain = str(value)
    return plain
