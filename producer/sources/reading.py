"""Sources: what `enqueue` is given, read as a stream of videos and of entries that are none."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from db.errors import UsageError
from producer.categories import Categories
from producer.sources.buckets import bucket_rows, command_errors
from producer.sources.folders import folder_rows
from producer.sources.lists import READ, list_kind, read_list, refuse_other, refuse_text
from producer.sources.manifest import FROM_NAMES, Context, RowError, VideoRow
from producer.sources.naming import VIDEO_SUFFIXES, matches
from producer.sources.textlists import read_stream
from producer.sources.uris import Canonical, canonical, file_uri, folder_uri
from workers.sources.file import version_of
from workers.sources.schemes import Naming, key_of, naming_of
from workers.sources.storage import Storage

__all__ = ["FORMS", "RowError", "Unmatched", "VideoRow", "read_source"]

FORMS = (
    "a source is a folder, s3://bucket/prefix, a video file, a list (here or in a bucket), - for "
    f"a list on standard input, or the address of one video (https://host/video.mp4); {READ}"
)


@dataclass
class Unmatched:
    """The videos that `--match` passed over: how many, and the first."""

    count: int = 0
    example: str = ""


def read_source(
    source: str,
    *,
    categories: Categories,
    match: str | None,
    s3_endpoint: str | None,
    storage: Storage,
    unmatched: Unmatched | None = None,
) -> Iterator[VideoRow | RowError]:
    """Stream the videos of a source; nothing but one folder's names or one page of a bucket is held
    in memory.

    `match`: glob (case-sensitive) against the file name, or an S3 object's whole key; `unmatched`
    counts what it passes over. Raises at once, before any row: `UsageError` when the source is none
    of `FORMS` or cannot be read, and what `producer.sources.buckets.bucket_rows` raises.
    """
    context = Context(Path.cwd(), categories, s3_endpoint)
    rows = _rows(source, context, match, storage)
    return (
        rows
        if match is None
        else _matching(rows, match, Unmatched() if unmatched is None else unmatched)
    )


def _matching(
    rows: Iterator[VideoRow | RowError], match: str, unmatched: Unmatched
) -> Iterator[VideoRow | RowError]:
    for row in rows:
        if isinstance(row, RowError) or matches(
            key_of(row.uri), match, whole=naming_of(row.uri) is Naming.KEY
        ):
            yield row
            continue
        unmatched.count += 1
        unmatched.example = unmatched.example or key_of(row.uri)


def _rows(
    source: str, context: Context, match: str | None, storage: Storage
) -> Iterator[VideoRow | RowError]:
    if source == "-":
        return read_stream(sys.stdin.buffer, "standard input", context)
    try:
        folder = bucket_folder(source, context.s3_endpoint)
        if folder is not None:
            return bucket_rows(folder, categories=context.categories, match=match, storage=storage)
        place = canonical(source, base=context.base, s3_endpoint=context.s3_endpoint)
    except ValueError as error:
        raise UsageError(f"source: {error}; {FORMS}") from error
    if naming_of(place.uri) is Naming.PATH:
        return _local_rows(Path(key_of(place.uri)), context, match)
    kind = list_kind(_name(source))
    if kind and naming_of(place.uri) is Naming.KEY:
        return _list_in_bucket(place.uri, context, storage)
    if kind:
        raise UsageError(f"{place.uri} is not on this machine: copy the {kind} file here; {FORMS}")
    refuse_other(_name(source))
    return iter([_single(place)])


def bucket_folder(source: str, s3_endpoint: str | None) -> str | None:
    """The uri of a source whose objects are listed; None: it names a video, a list, or no bucket at
    all.

    Raises `ValueError`: no bucket name. Raises `UsageError`: an object that is neither video nor
    list.
    """
    folder = folder_uri(source, s3_endpoint=s3_endpoint)
    if source.endswith("/") or folder is None:
        return folder
    refuse_other(_name(source))
    is_one = (
        list_kind(_name(source)) or PurePosixPath(_name(source)).suffix.lower() in VIDEO_SUFFIXES
    )
    return None if is_one else folder


def _name(source: str) -> str:
    return PurePosixPath(source.partition("?")[0]).name


def _single(place: Canonical, facts: os.stat_result | None = None) -> VideoRow:
    row = VideoRow(
        place.uri,
        title=PurePosixPath(key_of(place.uri)).stem or None,
        warning=place.warning,
        derived=FROM_NAMES,
    )
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
    if list_kind(path.name):
        return read_list(path, replace(context, base=path.parent.absolute()))
    return iter([_one_file(path, facts)])


def _one_file(path: Path, facts: os.stat_result) -> VideoRow:
    """A file that was named by itself. Raises `UsageError`: it is no video by its name, or a
    text.
    """
    row = _single(Canonical(file_uri(path)), facts)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return row
    refuse_other(path.name)
    refuse_text(path)
    return replace(
        row,
        warning=f"{path.name} does not have the name of a video; it is recorded as one all the "
        "same",
    )


def _list_in_bucket(uri: str, context: Context, storage: Storage) -> Iterator[VideoRow | RowError]:
    """A list in a bucket: read from a copy that is gone afterwards."""
    folder = tempfile.TemporaryDirectory(prefix="reelvec-list-")
    copy = Path(folder.name) / PurePosixPath(uri).name[-60:]
    try:
        with command_errors():
            storage.download(uri, copy)
        rows = read_list(copy, replace(context, base=None))
    except BaseException:
        folder.cleanup()
        raise
    return _then_removed(rows, folder)


def _then_removed(
    rows: Iterator[VideoRow | RowError], folder: tempfile.TemporaryDirectory[str]
) -> Iterator[VideoRow | RowError]:
    with folder:
        yield from rows
