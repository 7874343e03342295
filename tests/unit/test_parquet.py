"""Parquet manifests: the columns of CSV, with their types; bad rows do not stop the good ones."""

from __future__ import annotations

import json
import math
import tracemalloc
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from db.errors import UsageError
from producer.categories import load_shipped
from producer.sources.manifest import Context, RowError, VideoRow
from producer.sources.parquet import read_parquet


def write(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "videos.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def read(path: Path) -> list[VideoRow | RowError]:
    return list(
        read_parquet(path, Context(path.parent, load_shipped(), "https://storage.example.net"))
    )


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
    (row,) = read(
        write(
            tmp_path, {"uri": ["a.mp4"], "id": [math.nan], "views": [math.nan], "raw": pa.nulls(1)}
        )
    )
    assert isinstance(row, VideoRow)
    assert (row.external_id, row.attributes) == (None, {})


def test_bytes_are_refused_by_row(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {"uri": ["a.mp4"], "blob": [b"\x00\x01"]}))
    assert isinstance(row, RowError)
    assert "holds bytes" in row.reason


def test_odd_values_become_nothing_text_or_one_bad_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": ["a.mp4", "b.mp4", "c.mp4"],
            "rating": [math.inf, -math.inf, 1.5],
            "length": pa.array([1_500_000_001, None, 2_000_000_000], pa.duration("ns")),
            "made": pa.array([1, None, 2**62], pa.timestamp("ns")),
            "zoned": pa.array([1, None, 2**62], pa.timestamp("ns", tz="UTC")),
            "at": pa.array([1_001, None, 2_000], pa.time64("ns")),
            "price": pa.array([Decimal("1.50"), None, Decimal("12.00")]),
            "day": [date(2024, 5, 1), None, date(1, 1, 1)],
            "raw": [b"text", None, "Ночь".encode()],
            "nested": [{"k": [{"t": timedelta(seconds=1), "i": math.inf}]}, None, {"k": []}],
            "kept": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        }
    )
    path = tmp_path / "videos.parquet"
    parquet.write_table(table, path)
    first, empty, last = read(path)
    assert isinstance(first, VideoRow)
    assert isinstance(empty, VideoRow)
    assert isinstance(last, VideoRow)
    json.dumps([first.attributes, last.attributes], allow_nan=False)
    assert first.attributes == {
        "length": 1.5, "made": "1970-01-01T00:00:00", "zoned": "1970-01-01T00:00:00+00:00", "at": "00:00:00.000001",
        "price": "1.50", "day": "2024-05-01", "raw": "text", "nested": {"k": [{"t": 1, "i": None}]}, "kept": [["a", 1]],
    }  # fmt: skip
    assert empty.attributes == {}
    assert (last.attributes["rating"], last.attributes["price"], last.attributes["raw"]) == (
        1.5,
        12,
        "Ночь",
    )


def test_what_python_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
            "made": pa.array([0, 2**62, 0, 0], pa.timestamp("us")),
            "owner": pa.array(
                [[("na\0me", 1)], None, None, None], pa.map_(pa.string(), pa.int32())
            ),
            "raw": [None, None, b"\xff", None],
        }
    )
    path = tmp_path / "videos.parquet"
    parquet.write_table(table, path)
    rows = read(path)
    assert [type(row) for row in rows] == [RowError, RowError, RowError, VideoRow]
    reasons = [row.reason for row in rows if isinstance(row, RowError)]
    assert [
        word in reason for word, reason in zip(("NUL", "'made'", "bytes"), reasons, strict=True)
    ] == [True] * 3


def test_a_nul_in_the_key_of_a_structure_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "videos.parquet"
    parquet.write_table(pa.table({"uri": ["a.mp4", "b.mp4"], "owner": [{"na\0me": 1}, None]}), path)
    first, second = read(path)
    assert isinstance(first, RowError)
    assert "NUL" in first.reason
    assert isinstance(second, VideoRow)


def test_a_file_that_breaks_off_is_read_so_far(tmp_path: Path) -> None:
    path = tmp_path / "videos.parquet"
    uris = [f"s3://bucket/{number * 7919}.mp4" for number in range(3_000)]
    parquet.write_table(pa.table({"uri": uris}), path, row_group_size=1_000, use_dictionary=False)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 2_000] = bytes(2_000)
    path.write_bytes(whole)
    rows = read(path)
    assert isinstance(rows[0], VideoRow)
    assert isinstance(rows[-1], RowError)
    assert "damaged here" in rows[-1].reason


def test_what_is_no_manifest_is_refused_at_once(tmp_path: Path) -> None:
    context = Context(tmp_path, load_shipped(), None)
    with pytest.raises(UsageError, match=r"no column for the address \(found: link\)"):
        read_parquet(write(tmp_path, {"link": ["a"]}), context)
    (tmp_path / "videos.parquet").write_bytes(b"uri\na.mp4\n")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        read_parquet(tmp_path / "videos.parquet", context)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, {"uri": ["a.mp4"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reelvec\[parquet\]"):
        read_parquet(path, Context(tmp_path, load_shipped(), None))


def test_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    uris = [f"s3://bucket/{number}.mp4" for number in range(4_000)]
    path = tmp_path / "videos.parquet"
    parquet.write_table(
        pa.table({"uri": uris, "title": ["t" * 2_000] * 4_000}), path, row_group_size=100
    )
    tracemalloc.start()
    try:
        count = sum(
            isinstance(row, VideoRow)
            for row in read_parquet(path, Context(tmp_path, load_shipped(), None))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4_000
    assert peak < 4 << 20
