"""Sources: what `enqueue` is given, read as a stream of videos and of entries that are none."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from db.errors import UsageError
from producer.buckets import bucket_rows, told
from producer.categories import Categories
from producer.folders import folder_rows
from producer.manifest import Context, RowError, VideoRow, read_csv
from producer.naming import VIDEO_SUFFIXES, matches
from producer.parquet import read_parquet
from producer.uris import Canonical, bucket_place, canonical, file_uri, key_of
from workers.storage import Storage
from workers.stores.file import version_of

__all__ = ["FORMS", "RowError", "VideoRow", "read_source"]

FORMS = (
    "a source is a folder, s3://bucket/prefix, a video file, a .csv or .parquet manifest or a .txt list (here or in a"
    " bucket), - for a list on standard input, or the address of one video (https://host/video.mp4)"
)
_LISTS = (".csv", ".parquet", ".txt")


def read_source(
    source: str, *, categories: Categories, match: str | None, s3_endpoint: str | None, storage: Storage
) -> Iterator[VideoRow | RowError]:
    """Stream the videos of a source; nothing but one folder's names or one page of a bucket is held in memory.

    `match`: glob (case-sensitive) against the file name, or an S3 object's whole key.
    Raises at once, before any row: `UsageError` when the source is none of `FORMS` or cannot be read, and what
    `producer.buckets.bucket_rows` raises.
    """
    context = Context(Path.cwd(), categories, s3_endpoint)
    rows = _rows(source, context, match, storage)
    return rows if match is None else _matching(rows, match)


def _matching(rows: Iterator[VideoRow | RowError], match: str) -> Iterator[VideoRow | RowError]:
    for row in rows:
        if isinstance(row, RowError) or matches(key_of(row.uri), match, whole=row.uri.startswith("s3://")):
            yield row


def _rows(source: str, context: Context, match: str | None, storage: Storage) -> Iterator[VideoRow | RowError]:
    if source == "-":
        return _list_rows(sys.stdin.buffer, "standard input", context)
    suffix = _suffix(source)
    try:
        bucket = bucket_folder(source, context.s3_endpoint)
        if bucket is not None:
            return bucket_rows(*bucket, categories=context.categories, match=match, storage=storage)
        place = canonical(source, base=context.base, s3_endpoint=context.s3_endpoint)
    except ValueError as error:
        raise UsageError(f"source: {error}; {FORMS}") from error
    if place.uri.startswith("file:"):
        return _local_rows(Path(key_of(place.uri)), context, match)
    if place.uri.startswith("s3:") and suffix in _LISTS:
        return _list_in_bucket(place.uri, context, storage)
    if suffix in _LISTS:
        raise UsageError(f"{place.uri} is not on this machine: copy the {suffix} file here; {FORMS}")
    return iter([_single(place)])


def bucket_folder(source: str, s3_endpoint: str | None) -> tuple[str, str] | None:
    """Bucket and prefix of a source whose objects are listed; None: it names a video, a list, or no bucket at all.

    Raises `ValueError`: no bucket name.
    """
    place = bucket_place(source, s3_endpoint=s3_endpoint)
    is_one = _suffix(source) in VIDEO_SUFFIXES | set(_LISTS) and not source.endswith("/")
    return None if is_one else place


def _suffix(source: str) -> str:
    return PurePosixPath(source.partition("?")[0]).suffix.lower()


def _single(place: Canonical, facts: os.stat_result | None = None) -> VideoRow:
    row = VideoRow(place.uri, title=PurePosixPath(key_of(place.uri)).stem or None, warning=place.warning)
    return row if facts is None else replace(row, size_bytes=facts.st_size, etag=version_of(facts))


def _local_rows(path: Path, context: Context, match: str | None) -> Iterator[VideoRow | RowError]:
    try:
        facts = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {FORMS}") from error
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} may not be read by this user")
    if stat.S_ISDIR(facts.st_mode):
        return folder_rows(path, context.categories, match)
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{path} is neither a file nor a folder; {FORMS}")
    if path.suffix.lower() in _LISTS:
        return _list_file(path, replace(context, base=path.parent.absolute()))
    return iter([_single(Canonical(file_uri(path)), facts)])


def _list_file(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path, context)
    return read_parquet(path, context) if suffix == ".parquet" else _text_file(path, context)


def _text_file(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    with path.open("rb") as file:
        yield from _list_rows(file, path.name, context)


def _list_in_bucket(uri: str, context: Context, storage: Storage) -> Iterator[VideoRow | RowError]:
    """A manifest or list in a bucket: read from a copy that is gone afterwards."""
    folder = tempfile.TemporaryDirectory(prefix="reelvec-list-")
    name = PurePosixPath(uri)
    copy = Path(folder.name) / f"{name.stem[:60]}{name.suffix}"
    try:
        with told():
            storage.download(uri, copy)
        rows = _list_file(copy, replace(context, base=None))
    except BaseException:
        folder.cleanup()
        raise
    return _then_removed(rows, folder)


def _then_removed(
    rows: Iterator[VideoRow | RowError], folder: tempfile.TemporaryDirectory[str]
) -> Iterator[VideoRow | RowError]:
    with folder:
        yield from rows


def _list_rows(file: BinaryIO, name: str, context: Context) -> Iterator[VideoRow | RowError]:
    """One path or address a line; empty lines and lines that begin with # are comments."""
    for number, raw in enumerate(file, 1):
        row: VideoRow | RowError
        try:
            text = raw.decode("utf-8-sig").strip()
            if not text or text.startswith("#"):
                continue
            row = _single(canonical(text, base=context.base, s3_endpoint=context.s3_endpoint))
        except ValueError as error:
            reason = "not UTF-8; save the list as UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            row = RowError(f"{name} line {number}", reason)
        yield row
