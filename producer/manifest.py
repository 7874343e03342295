"""Manifests: one video per row, columns by name. Rows are read one at a time; a bad one is reported, not fatal."""

from __future__ import annotations

import ast
import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from db.errors import UsageError
from producer.categories import Categories, looks_like_id
from producer.uris import canonical

_URI_COLUMNS = ("uri", "s3_url")
_FALLBACK_URI_COLUMNS = ("url",)  # where uri or s3_url exists, url is a web page
_MAX_FIELD_CHARACTERS = 1 << 20
_MAX_TUPLE_CHARACTERS = 10_000
_MAX_KEY_CHARACTERS = 500  # of columns with an index: Postgres refuses index entries above 2,704 bytes
_EMPTY = frozenset({"", "nan", "NaN"})  # pandas writes a missing value as nan
#: What Postgres cannot store: NUL, and the surrogates that stand for bytes that are not UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class VideoRow:
    """One video of a source. `category`: slug of a known category, else the source's own text."""

    uri: str
    external_id: str | None = None
    category: str | None = None
    title: str | None = None
    group: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    size_bytes: int | None = None
    etag: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class RowError:
    """One entry of a source that is no video, and where it stands: `videos.csv line 17`."""

    where: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What the rows of a manifest are read against. `base`: where relative paths start; None refuses them."""

    base: Path | None
    categories: Categories
    s3_endpoint: str | None


def read_csv(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of a CSV manifest.

    Columns, in any case: `uri` or `s3_url` (`url` only where neither exists), `external_id` or `id`, `category` or
    `manual_category_id`, `title` or `parsed_category`, `group`. Of two columns for one thing the first with a value
    counts. All other columns are kept as attributes.
    Raises `UsageError` at once, before any row: unreadable, not UTF-8, empty, no uri column, a column twice.
    """
    return _csv_rows(path, _read_header(path), context)


def _open(path: Path) -> TextIO:
    # surrogateescape: one row that is not UTF-8 must not end the reading of the others
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_header(path: Path) -> list[str]:
    try:
        with _open(path) as file:
            header = [name.strip() for name in _first_row(csv.reader(file))]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path} is not a readable CSV file: {error}") from error
    if _UNSTORABLE.search("".join(header)):
        raise UsageError(f"{path} is not UTF-8 text; save the manifest as UTF-8")
    check_columns(path, header)
    return header


def check_columns(path: Path, header: Sequence[str]) -> None:
    """Raises `UsageError`: no column for the address, a column twice."""
    names = [name.lower() for name in header if name]
    accepted = (*_URI_COLUMNS, *_FALLBACK_URI_COLUMNS)
    if not set(names) & set(accepted):
        found = ", ".join(names) or "none"
        raise UsageError(f"{path} has no column for the address (found: {found}); accepted: {', '.join(accepted)}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path} has column {twice!r} twice; rename one")


def _first_row(reader: Iterator[list[str]]) -> list[str]:
    return next((cells for cells in reader if cells), [])


def _csv_rows(path: Path, header: list[str], context: Context) -> Iterator[VideoRow | RowError]:
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    with _open(path) as file:
        reader = csv.reader(file)
        _first_row(reader)
        while True:
            row: VideoRow | RowError
            try:
                cells = next(reader)
                if not any(cells):
                    continue
                row = video(_named(header, cells), header, context)
            except StopIteration:
                return
            except (ValueError, csv.Error) as error:
                row = RowError(f"{path.name} line {reader.line_num}", str(error))
            yield row


def _named(header: list[str], cells: list[str]) -> dict[str, str]:
    """The row's values by column; missing ones are left out. Raises `ValueError`: too many cells, unstorable text."""
    if any(cells[len(header) :]):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns; put quotes around text with commas")
    for name, cell in zip(header, cells, strict=False):
        check_storable(name, cell)
    stripped = ((name, cell.strip()) for name, cell in zip(header, cells, strict=False))
    return {name: cell for name, cell in stripped if name and cell not in _EMPTY}


def check_storable(name: str, cell: str) -> None:
    """Raises `ValueError` for text that Postgres cannot hold."""
    if bad := _UNSTORABLE.search(cell):
        what = "a NUL character" if bad[0] == "\0" else "not UTF-8"
        raise ValueError(f"column {name!r}: {what}; save the manifest as UTF-8 text")


def video(values: dict[str, Any], header: Sequence[str], context: Context) -> VideoRow:
    """The video of one row; `values` by column, without those that are missing. Raises `ValueError`: what is wrong."""
    columns = {name.lower(): name for name in values}
    known = {name.lower() for name in header}
    addresses = tuple(name for name in _URI_COLUMNS if name in known) or _FALLBACK_URI_COLUMNS

    def take(*names: str) -> str | None:
        """Remove and return the first value there is."""
        found = next((columns[name] for name in names if name in columns), None)
        return None if found is None else str(values.pop(found))

    address = take(*addresses)
    if address is None:
        raise ValueError(f"no address in column {' or '.join(addresses)}")
    place = canonical(address, base=context.base, s3_endpoint=context.s3_endpoint)
    external_id = take("external_id", "id")
    category = _category(take("category", "manual_category_id"), context.categories)
    for name, value in (("id", external_id), ("category", category)):
        if value is not None and len(value) > _MAX_KEY_CHARACTERS:
            raise ValueError(f"{name} has {len(value)} characters; allowed are {_MAX_KEY_CHARACTERS}")
    title = take("title")
    if title is None and (parsed := take("parsed_category")) is not None:
        title = _first_of_tuple(parsed)
    return VideoRow(place.uri, external_id, category, title, take("group"), values, warning=place.warning)


def _category(text: str | None, categories: Categories) -> str | None:
    """The slug; a name of the user's own stays as it is. Raises `ValueError` for an id that nothing is known about."""
    if text is None:
        return None
    if found := categories.find(text):
        return found.slug
    if looks_like_id(text):
        raise ValueError(f"category id {text} belongs to no known category; give the category's name instead")
    return text


def _first_of_tuple(text: str) -> str | None:
    """First item of a Python tuple literal such as `('Title', 'Films')`. Raises `ValueError`: malformed or too long."""
    if len(text) > _MAX_TUPLE_CHARACTERS:
        raise ValueError(f"parsed_category has {len(text)} characters; allowed are {_MAX_TUPLE_CHARACTERS}")
    malformed = f"parsed_category {text[:60]!r} is not a Python tuple such as ('Title', 'Films')"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash in a title is worth no SyntaxWarning
            parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(malformed) from error
    if not isinstance(parsed, tuple | list) or not parsed:
        raise ValueError(malformed)
    title = "" if parsed[0] is None else str(parsed[0]).strip()
    if _UNSTORABLE.search(title):  # an escape such as \x00 in the literal
        raise ValueError(malformed)
    return title or None
