"""Parquet: one row a vector, one column a fact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from db.errors import UsageError
from producer.results.rows import Rows


def write(file: BinaryIO, blocks: Iterable[Rows]) -> None:
    """The vector is a list of fixed length, float32, as tools for embeddings read it.

    Raises `UsageError` without pyarrow.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'reelvec[parquet]'") from error
    writer = None
    try:
        for block in blocks:
            rows, dim = block.vectors.shape
            flat = pa.array(np.ascontiguousarray(block.vectors).reshape(rows * dim))
            columns = {name: pa.array(values) for name, values in block.columns().items()}
            columns = {name: _typed(name, values, pa) for name, values in columns.items()}
            columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, dim)
            table = pa.table(columns)
            if writer is None:
                # vectors of floats neither repeat nor compress
                kept = [name for name in table.column_names if name != "vector"]
                writer = parquet.ParquetWriter(
                    file, table.schema, compression=dict.fromkeys(kept, "zstd"), use_dictionary=kept
                )
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _typed(name: str, values, pa):  # type: ignore[no-untyped-def]
    """A column of nothing but NULL in one block has the type it has in the others."""
    types = {
        "external_id": pa.string(),
        "category": pa.string(),
        "title": pa.string(),
        "tag": pa.string(),
        "duration_seconds": pa.float64(),
        "probability": pa.float64(),
    }
    return values.cast(types[name]) if name in types else values
