"""JSON lists: one object a line, or one array of objects; read one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from db.errors import UsageError
from producer.sources import packed
from producer.sources.cells import is_storable, present
from producer.sources.manifest import (
    Context,
    RowError,
    VideoRow,
    address_columns,
    check_columns,
    video,
)
from producer.sources.packed import DAMAGE, MAX_LINE_CHARACTERS, Lines, UnreadableLineError

#: Objects need not all have the same keys: which one holds the address is decided from so many.
_LOOKED_AT = 1_000
_BLOCK_CHARACTERS = 1 << 16
_ONE_A_LINE = 'write one object a line, such as: {"uri": "s3://bucket/a.mp4", "id": "7"}'
_KEY = re.compile(r'"([^"]{1,60})"\s*:')
_BETWEEN = re.compile(r"[\s,]*")

Entry = tuple[str, Any]


def read_json(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of JSON Lines, or of an array of objects. Keys are columns, as in
    `producer.sources.manifest`.

    Raises `UsageError` at once, before any row: unreadable, one object instead of a list, no key
    for the address.
    """
    with packed.opened(path) as file:
        seen = list(islice(_entries(path, file), _LOOKED_AT))
    objects = [value for _, value in seen if isinstance(value, dict)]
    keys = list(dict.fromkeys(key for value in objects for key in value if is_storable(key)))
    if (
        seen
        and not address_columns(keys)
        and (len(seen) == 1 or isinstance(seen[0][1], ValueError))
    ):
        _refuse_one_object(path, seen[0][1], keys or _keys_at_the_beginning(path))
    check_columns(path, keys)
    return _rows(path, address_columns(keys), context)


def _entries(path: Path, file: TextIO) -> Iterator[Entry]:
    """Each object and where it stands; in its place the error where one cannot be read."""
    first = _first_character(path, file)
    return _array(path.name, file) if first == "[" else _lines(path.name, Lines(file), first)


def _first_character(path: Path, file: TextIO) -> str:
    try:
        while (character := file.read(1)).isspace():
            pass
    except DAMAGE as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not character:
        raise UsageError(f"{path} is empty; {_ONE_A_LINE}")
    return character


def _keys_at_the_beginning(path: Path) -> list[str]:
    """Of an object that takes many lines, or one that is too long."""
    with packed.opened(path) as file:
        return list(dict.fromkeys(_KEY.findall(file.read(_BLOCK_CHARACTERS))))


def _refuse_one_object(path: Path, value: Any, keys: list[str]) -> None:
    """ActivityNet is published so, and many an export: there is no telling which of its parts are
    videos.
    """
    if "database" in keys:
        raise UsageError(
            f"{path} is one object with the key 'database', as ActivityNet is published: it names "
            "pages of YouTube, not files. Get the files yourself where that is allowed, and "
            f"{_ONE_A_LINE}"
        )
    if isinstance(value, ValueError):
        raise UsageError(f"{path} is not a list in JSON: {value}; {_ONE_A_LINE}")
    if any(
        isinstance(part, dict | list)
        for part in (value.values() if isinstance(value, dict) else ())
    ):
        raise UsageError(
            f"{path} is one object (keys: {', '.join(keys[:10])}), not a list; {_ONE_A_LINE}"
        )


def _rows(
    path: Path, addresses: tuple[str, ...], context: Context
) -> Iterator[VideoRow | RowError]:
    with packed.opened(path) as file:
        for where, value in _entries(path, file):
            yield _row(where, value, addresses, context)


def _row(
    where: str, value: Any, addresses: tuple[str, ...], context: Context
) -> VideoRow | RowError:
    try:
        if isinstance(value, ValueError):
            raise value
        if not isinstance(value, dict):
            raise ValueError(f"not an object but {type(value).__name__}; {_ONE_A_LINE}")
        return video(present(value), addresses, context)
    except ValueError as error:
        return RowError(where, str(error))


def _lines(name: str, lines: Lines, first: str) -> Iterator[Entry]:
    """What each line holds, or the error that it cannot be read. `first`: the character that is
    read already.
    """
    while True:
        try:
            line = first + next(lines)
        except StopIteration:
            return
        except UnreadableLineError as error:
            yield f"{name} line {lines.number}", error
            continue
        finally:
            first = ""
        if line.strip():
            yield f"{name} line {lines.number}", _parsed(line)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON ({error}); {_ONE_A_LINE}")


def _array(name: str, file: TextIO) -> Iterator[Entry]:
    """The items of an array whose bracket is read already: each as soon as it is complete. Nothing
    after a broken one.
    """
    decoder, buffer, at, number, ended = json.JSONDecoder(), "", 0, 0, False
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if buffer.startswith("]", at):
            return
        where = f"{name} item {number + 1}"
        try:
            value, end = decoder.raw_decode(buffer, at)
        except (ValueError, RecursionError) as error:
            if ended or len(buffer) - at > MAX_LINE_CHARACTERS or isinstance(error, RecursionError):
                yield (
                    where,
                    ValueError(f"not JSON ({error}); nothing behind it was read; {_ONE_A_LINE}"),
                )
                return
            try:
                block = file.read(max(_BLOCK_CHARACTERS, len(buffer) - at))
            except DAMAGE as damage:
                yield (
                    where,
                    ValueError(f"the file is damaged here ({damage}); nothing behind it was read"),
                )
                return
            ended, buffer, at = not block, buffer[at:] + block, 0
            continue
        at, number = end, number + 1
        yield where, value
