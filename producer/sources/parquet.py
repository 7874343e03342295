"""Parquet lists, read in batches: the same columns as CSV, with the types they have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import UsageError
from producer.sources import packed
from producer.sources.cells import present
from producer.sources.manifest import (
    Context,
    RowError,
    VideoRow,
    address_columns,
    check_columns,
    video,
)

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1_000


def read_parquet(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of a Parquet list; columns as in `producer.sources.manifest`.

    Raises `UsageError` at once, before any row: pyarrow is not installed, no Parquet file, no uri
    column, a column twice.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: reading .parquet needs pyarrow; pip install 'reelvec[parquet]'"
        ) from error
    try:
        with packed.seekable(path) as file:
            names = parquet.read_schema(file).names
    except (ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path} is not a readable Parquet file: {error}") from error
    check_columns(path, names)
    return _rows(path, address_columns(names), context)


def _rows(
    path: Path, addresses: tuple[str, ...], context: Context
) -> Iterator[VideoRow | RowError]:
    from pyarrow import ArrowException, parquet

    number = 0
    with packed.seekable(path) as file:
        try:
            for batch in parquet.ParquetFile(file).iter_batches(BATCH_ROWS):
                for values in _values(batch):
                    number += 1
                    yield _row(f"{path.name} row {number}", values, addresses, context)
        except (ArrowException, OSError) as error:
            reason = f"the file is damaged here ({error}); nothing behind it was read"
            yield RowError(f"{path.name} row {number + 1}", reason)


def _row(
    where: str, values: dict[str, Any] | ValueError, addresses: tuple[str, ...], context: Context
) -> VideoRow | RowError:
    try:
        if isinstance(values, ValueError):
            raise values
        return video(present(values), addresses, context)
    except ValueError as error:
        return RowError(where, str(error))


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | ValueError]:
    """The rows of a batch as Python has them; one that it cannot hold is the error that says so."""
    names = batch.schema.names
    columns = [_in_microseconds(column) for column in batch.columns]
    try:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        values: list[dict[str, Any] | ValueError] = [
            dict(zip(names, row, strict=True)) for row in rows
        ]
    except Exception:  # noqa: BLE001 - whatever pyarrow raises for one value must not cost the others
        values = [_slowly(names, columns, index) for index in range(batch.num_rows)]
    yield from values


def _slowly(names: list[str], columns: list[Any], index: int) -> dict[str, Any] | ValueError:
    """One row value by value."""
    values: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        try:
            values[name] = column[index].as_py()
        except Exception as error:  # noqa: BLE001 - as above
            return ValueError(
                f"column {name!r} of type {column.type} holds a value that cannot be read ({error})"
            )
    return values


def _in_microseconds(column: Any) -> Any:
    """Python's times have no nanoseconds: they are cut off. A column that cannot be changed stays
    as it is.
    """
    import pyarrow as pa

    wanted = _micro(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted, safe=False)
    except (pa.ArrowException, TypeError):
        return column


def _micro(kind: Any) -> Any:
    """The same type with microseconds for nanoseconds, at every depth."""
    import pyarrow as pa

    types = pa.types
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", tz=kind.tz)
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_struct(kind):
        return pa.struct([field.with_type(_micro(field.type)) for field in kind])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_micro(kind.value_type)))
    return kind
