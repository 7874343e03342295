"""Parquet manifests: the columns of CSV, with their types; bad rows do not stop the good ones."""

from __future__ import annotations

import json
import math
import tracemalloc
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from db.errors import UsageError
from producer.categories import load_shipped
from producer.manifest import Context, RowError, VideoRow
from producer.parquet import read_parquet


def write(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "videos.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def read(path: Path) -> list[VideoRow | RowError]:
    return list(read_parquet(path, Context(path.parent, load_shipped(), "https://storage.example.net")))


def test_columns_by_name_and_ten_more_as_they_are(tmp_path: Path) -> None:
    extra = {
        "views": [10], "rating": [4.5], "is_live": [True], "lang": ["ru"], "tags": [["a", "b"]],
        "owner": [{"id": 7, "name": "Ann"}], "made": [datetime(2024, 5, 1, 12, 30)], "nothing": [None],
        "empty": [""], "big": [2**62],
    }  # fmt: skip
    path = write(
        tmp_path,
        {"S3_URL": ["https://storage.example.net/bucket/a%20b.mp4"], "id": [12.0], "manual_category_id": [48.0],
         "title": ["Title"], "group": ["channel-1"], "url": ["https://page.example.org"], **extra},
    )  # fmt: skip
    (row,) = read(path)
    assert isinstance(row, VideoRow)
    assert (row.uri, row.external_id, row.category) == ("s3://bucket/a b.mp4", "12", "films")
    assert (row.title, row.group) == ("Title", "channel-1")
    assert row.attributes == {
        "url": "https://page.example.org", "views": 10, "rating": 4.5, "is_live": True, "lang": "ru",
        "tags": ["a", "b"], "owner": {"id": 7, "name": "Ann"}, "made": "2024-05-01T12:30:00", "big": 2**62,
    }  # fmt: skip
    json.dumps(row.attributes, allow_nan=False)


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"uri": ["a.mp4", None, "ftp://host/x", "d.mp4", "e.mp4"], "manual_category_id": [48, 48, 48, 25, 42],
         "note": ["x", "x", "x", "x", "nul\0"]},
    )  # fmt: skip
    rows = read(path)
    assert [row.uri if isinstance(row, VideoRow) else row.where for row in rows] == [
        f"file://{tmp_path}/a.mp4",
        *(f"videos.parquet row {number}" for number in (2, 3, 4, 5)),
    ]
    reasons = [row.reason for row in rows if isinstance(row, RowError)]
    assert "no address" in reasons[0]
    assert "scheme ftp" in reasons[1]
    assert "category id 25" in reasons[2]
    assert "NUL" in reasons[3]


def test_missing_numbers_are_missing(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {"uri": ["a.mp4"], "id": [math.nan], "views": [math.nan], "raw": pa.nulls(1)}))
    assert isinstance(row, VideoRow)
    assert (row.external_id, row.attributes) == (None, {})


def test_bytes_are_refused_by_row(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {"uri": ["a.mp4"], "blob": [b"\x00\x01"]}))
    assert isinstance(row, RowError)
    assert "holds bytes" in row.reason


def test_what_is_no_manifest_is_refused_at_once(tmp_path: Path) -> None:
    context = Context(tmp_path, load_shipped(), None)
    with pytest.raises(UsageError, match=r"no column for the address \(found: link\)"):
        read_parquet(write(tmp_path, {"link": ["a"]}), context)
    (tmp_path / "videos.parquet").write_bytes(b"uri\na.mp4\n")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        read_parquet(tmp_path / "videos.parquet", context)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"uri": ["a.mp4"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reelvec\[parquet\]"):
        read_parquet(path, Context(tmp_path, load_shipped(), None))


def test_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    uris = [f"s3://bucket/{number}.mp4" for number in range(20_000)]
    path = tmp_path / "videos.parquet"
    parquet.write_table(pa.table({"uri": uris, "title": ["t" * 200] * 20_000}), path, row_group_size=1_000)
    tracemalloc.start()
    try:
        count = sum(isinstance(row, VideoRow) for row in read_parquet(path, Context(tmp_path, load_shipped(), None)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 << 20
