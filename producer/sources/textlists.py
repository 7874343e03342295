"""Text lists: one path or address a line. Prose and code are told apart from lists by their
lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from db.errors import UsageError
from producer.sources import packed
from producer.sources.cells import SAVE_AS_UTF8, is_storable
from producer.sources.manifest import (
    FROM_NAMES,
    Context,
    RowError,
    VideoRow,
    looks_like_address,
)
from producer.sources.packed import Lines, UnreadableLineError
from producer.sources.uris import canonical
from workers.sources.schemes import key_of

#: So many lines decide whether a text is a list: in one, most of them are addresses.
_LOOKED_AT = 100

Entry = tuple[int, str | UnreadableLineError]


def read_text(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the videos of a list; empty lines and lines that begin with # are comments.

    Raises `UsageError` at once, before any row: most of its first lines are neither paths nor
    addresses.
    """
    with packed.opened(path) as file:
        _refuse_prose(path.name, list(islice(_entries(Lines(file)), _LOOKED_AT)), context)
    return _opened_again(path, context)


def _opened_again(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    with packed.opened(path) as file:
        yield from _rows(path.name, _entries(Lines(file)), context)


def read_stream(stream: BinaryIO, name: str, context: Context) -> Iterator[VideoRow | RowError]:
    """The same for what can be read only once."""
    entries = _entries(Lines(packed.text(stream, name)))
    seen = list(islice(entries, _LOOKED_AT))
    _refuse_prose(name, seen, context)
    return _rows(name, chain(seen, entries), context)


def _refuse_prose(name: str, seen: list[Entry], context: Context) -> None:
    strange = [
        (number, line)
        for number, line in seen
        if isinstance(line, str) and not _is_address(line, context)
    ]
    if 2 * len(strange) > len(seen):
        number, line = strange[0]
        raise UsageError(
            f"{name} is no list of videos: line {number} is no path and no address: {line[:80]!r}. "
            "A list has one a line, with the ending of a video's name, or beginning with /, ./, "
            "s3:// or https://"
        )


def _entries(lines: Lines) -> Iterator[Entry]:
    while True:
        try:
            text = next(lines).strip()
        except StopIteration:
            return
        except UnreadableLineError as error:
            yield lines.number, error
            continue
        if text and not text.startswith("#"):
            yield lines.number, text


def _is_address(line: str, context: Context) -> bool:
    """Also whatever lies beside the list under this name, as names need no ending."""
    if looks_like_address(line) or not is_storable(
        line
    ):  # what is not text is told by its own line
        return True
    try:
        return context.base is not None and (context.base / line).is_file()
    except (OSError, ValueError):
        return False


def _rows(name: str, entries: Iterator[Entry], context: Context) -> Iterator[VideoRow | RowError]:
    for number, line in entries:
        row: VideoRow | RowError
        try:
            row = _row(line, context)
        except ValueError as error:
            row = RowError(f"{name} line {number}", str(error))
        yield row


def _row(line: str | UnreadableLineError, context: Context) -> VideoRow:
    if isinstance(line, UnreadableLineError):
        raise line
    if not is_storable(line) and "\0" not in line:
        raise ValueError(f"not UTF-8 text; {SAVE_AS_UTF8}")
    if not _is_address(line, context):
        raise ValueError(
            f"{line[:80]!r} is neither a path nor an address; if it is a file without an ending, "
            "write ./ before its name"
        )
    place = canonical(line, base=context.base, s3_endpoint=context.s3_endpoint)
    return VideoRow(
        place.uri,
        title=PurePosixPath(key_of(place.uri)).stem or None,
        warning=place.warning,
        derived=FROM_NAMES,
    )
