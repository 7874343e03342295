"""Parquet: one row a video or window, one column a fact, in the form that tools for embeddings
read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from db.errors import UsageError
from db.results.videos import FACTS
from producer.results.rows import Rows, Taken

if TYPE_CHECKING:
    import pyarrow

#: A video's place on the map, NULL where it has none; as embedding-atlas calls them.
PLACES = ("projection_x", "projection_y")


def table(rows: Rows, taken: Taken) -> pyarrow.Table:
    """The numbers are a list of fixed length, float32, made of the one array they are in.

    Raises `UsageError` without pyarrow.
    """
    pa = _arrow()
    schema = _schema(taken, pa)
    columns = [pa.array(rows.facts[name], schema.field(name).type) for name in FACTS]
    if rows.places is not None:
        columns += [
            pa.array(axis, from_pandas=True) for axis in np.ascontiguousarray(rows.places.T)
        ]
    if taken.windows:
        videos, windows = rows.numbers.shape[:2]
        repeated = pa.array(np.repeat(np.arange(videos), windows))
        columns = [column.take(repeated) for column in columns]
        columns.append(pa.array(np.tile(np.arange(windows, dtype=np.int16), videos)))
    if rows.spans_seconds is not None:
        spans = np.ascontiguousarray(rows.spans_seconds.reshape(-1, 2).T)
        columns += [pa.array(spans[0]), pa.array(spans[1])]
    flat = pa.array(np.ascontiguousarray(rows.numbers).reshape(-1))
    columns.append(pa.FixedSizeListArray.from_arrays(flat, taken.shape[-1]))
    return pa.table(columns, schema=schema)


def whole(blocks: Iterable[Rows], taken: Taken) -> pyarrow.Table:
    """All blocks as one table. Raises `UsageError` without pyarrow."""
    return _arrow().concat_tables([table(block, taken) for block in blocks])


def write(file: BinaryIO, blocks: Iterable[Rows], taken: Taken) -> None:
    """Blocks as row groups. Raises `UsageError` without pyarrow."""
    schema = _schema(taken, _arrow())
    from pyarrow import parquet

    # numbers of this kind neither repeat nor compress
    kept = [name for name in schema.names if name != taken.column]
    with parquet.ParquetWriter(
        file,
        schema,
        compression=dict.fromkeys(kept, "zstd"),
        use_dictionary=kept,
        write_statistics=kept,
    ) as writer:
        for block in blocks:
            writer.write_table(table(block, taken))


def rows_in(path: Path) -> int:
    """How many rows a file has."""
    _arrow()
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError("this needs pyarrow: pip install 'reelvec[parquet]'") from error
    return pyarrow


def _schema(taken: Taken, pa: Any) -> pyarrow.Schema:
    """The categories of a tagger's probabilities are in the metadata of the schema."""
    types = {"video_id": pa.int64(), "duration_seconds": pa.float32(), "probability": pa.float32()}
    fields = [pa.field(name, types.get(name, pa.string())) for name in FACTS]
    if taken.map_id is not None:
        fields += [pa.field(name, pa.float32()) for name in PLACES]
    if taken.windows:
        fields.append(pa.field("window_index", pa.int16()))
    if taken.windows and taken.categories is None:
        fields += [pa.field("start_seconds", pa.float32()), pa.field("end_seconds", pa.float32())]
    fields.append(pa.field(taken.column, pa.list_(pa.float32(), taken.shape[-1])))
    told = {"categories": "\n".join(taken.categories)} if taken.categories else None
    return pa.schema(fields, told)
