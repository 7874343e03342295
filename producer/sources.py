"""Sources: what `enqueue` is given, read as a stream of videos and of entries that are none."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from db.errors import UsageError
from producer.categories import Categories, looks_like_folder, looks_like_id
from producer.manifest import RowError, VideoRow, read_manifest
from producer.uris import Canonical, canonical, file_uri, key_of

__all__ = ["FORMS", "VIDEO_SUFFIXES", "RowError", "VideoRow", "read_source"]

#: Files that count as videos in a folder: what the sampler's format allow-list can open.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".ts", ".mts", ".m2ts", ".avi"}
)
FORMS = (
    "a source is a folder, a video file, a .csv manifest, a .txt list, - for a list on standard input, "
    "or the address of one video (https://host/video.mp4, s3://bucket/video.mp4); "
    "s3://bucket/prefix and .parquet are not supported yet: use a .csv or .txt file with addresses"
)


def read_source(
    source: str, *, categories: Categories, match: str | None, s3_endpoint: str | None
) -> Iterator[VideoRow | RowError]:
    """Stream the videos of a source; nothing but one folder's names is held in memory.

    `match`: glob (case-sensitive) against the file name, or an S3 object's whole key.
    Raises `UsageError` at once, before any row, when the source is none of `FORMS` or cannot be read.
    """
    rows = _rows(source, categories, s3_endpoint)
    return rows if match is None else _matching(rows, match)


def _matching(rows: Iterator[VideoRow | RowError], match: str) -> Iterator[VideoRow | RowError]:
    for row in rows:
        if isinstance(row, RowError):
            yield row
            continue
        key = key_of(row.uri)
        names = [PurePosixPath(key).name, *([key] if row.uri.startswith("s3://") else [])]
        if any(fnmatch.fnmatchcase(name, match) for name in names):
            yield row


def _rows(source: str, categories: Categories, s3_endpoint: str | None) -> Iterator[VideoRow | RowError]:
    if source == "-":
        return _list_rows(sys.stdin.buffer, "standard input", Path.cwd(), s3_endpoint)
    try:
        place = canonical(source, base=Path.cwd(), s3_endpoint=s3_endpoint)
    except ValueError as error:
        raise UsageError(f"source: {error}; {FORMS}") from error
    suffix = PurePosixPath(key_of(place.uri)).suffix.lower()
    if suffix == ".parquet":
        raise UsageError(f"{place.uri} is a .parquet file; {FORMS}")
    if place.uri.startswith("file:"):
        return _local_rows(Path(key_of(place.uri)), categories, s3_endpoint)
    if suffix in (".csv", ".txt"):
        raise UsageError(f"{place.uri} is not on this machine: copy the {suffix} file here; {FORMS}")
    if place.uri.startswith("s3:") and suffix not in VIDEO_SUFFIXES:
        raise UsageError(f"{place.uri} is no video by its name and cannot be listed; {FORMS}")
    return iter([_single(place)])


def _single(place: Canonical, size_bytes: int | None = None) -> VideoRow:
    return VideoRow(
        place.uri, title=PurePosixPath(key_of(place.uri)).stem or None, size_bytes=size_bytes, warning=place.warning
    )


def _local_rows(path: Path, categories: Categories, s3_endpoint: str | None) -> Iterator[VideoRow | RowError]:
    try:
        facts = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {FORMS}") from error
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} may not be read by this user")
    if stat.S_ISDIR(facts.st_mode):
        return _folder_rows(path, categories)
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{path} is neither a file nor a folder; {FORMS}")
    if path.suffix.lower() == ".csv":
        return read_manifest(path, categories=categories, s3_endpoint=s3_endpoint)
    if path.suffix.lower() == ".txt":
        return _list_file_rows(path, s3_endpoint)
    return iter([_single(Canonical(file_uri(path)), facts.st_size)])


def _list_file_rows(path: Path, s3_endpoint: str | None) -> Iterator[VideoRow | RowError]:
    with path.open("rb") as file:
        yield from _list_rows(file, path.name, path.parent, s3_endpoint)


def _list_rows(file: BinaryIO, name: str, base: Path, s3_endpoint: str | None) -> Iterator[VideoRow | RowError]:
    """One path or address a line; empty lines and lines that begin with # are comments."""
    for number, raw in enumerate(file, 1):
        row: VideoRow | RowError
        try:
            text = raw.decode("utf-8-sig").strip()
            if not text or text.startswith("#"):
                continue
            row = _single(canonical(text, base=base, s3_endpoint=s3_endpoint))
        except ValueError as error:
            reason = "not UTF-8; save the list as UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            row = RowError(f"{name} line {number}", reason)
        yield row


def _folder_rows(root: Path, categories: Categories) -> Iterator[VideoRow | RowError]:
    """Videos of a folder and all folders below it, in sorted order; hidden names are skipped.

    The first folder below the source is the category. A source that itself is a category folder (`48.0_films`, as
    from `enqueue data/*`) gives all its videos its own.
    """
    inside = root.resolve()
    whole = categories.find(root.name) if looks_like_folder(root.name) else None
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        below = here.relative_to(root).parts
        category = whole.slug if whole else None
        if below and whole is None:
            category = _folder_category(below[0], categories)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield _file_row(here / name, inside, category)
        # os.walk does not enter links: one that leads out would silently lose its videos, one that stays is found
        yield from (_leads_out(here / name) for name in folders if not _stays_inside(here / name, inside))
    yield from (RowError(_printable(error.filename), f"{error.strerror}: skipped") for error in unreadable)


def _folder_category(name: str, categories: Categories) -> str:
    """The slug a folder's name stands for, else the name: users have their own. `12` alone may be a month."""
    found = None if looks_like_id(name) else categories.find(name)
    return found.slug if found else name


def _file_row(path: Path, inside: Path, category: str | None) -> VideoRow | RowError:
    if not _stays_inside(path, inside):
        return _leads_out(path)
    try:
        uri = file_uri(path)
        facts = path.stat()
    except OSError as error:
        return RowError(_printable(path), error.strerror or str(error))
    except ValueError as error:
        return RowError(_printable(path), str(error))
    if not stat.S_ISREG(facts.st_mode):
        return RowError(_printable(path), "is not a regular file")
    return VideoRow(uri, category=category, title=path.stem, size_bytes=facts.st_size)


def _stays_inside(path: Path, inside: Path) -> bool:
    try:
        return not path.is_symlink() or path.resolve().is_relative_to(inside)
    except RuntimeError:  # a link to itself: stat() says so
        return True


def _leads_out(path: Path) -> RowError:
    return RowError(_printable(path), "a link that leads out of the folder; name its target as a source of its own")


def _printable(path: Path | str) -> str:
    """A path for people: line breaks and bytes that are not UTF-8 are escaped."""
    return str(path) if str(path).isprintable() else repr(str(path))[1:-1]
