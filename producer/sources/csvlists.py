"""CSV and TSV lists: the separator found from the first line, and a quote that is never closed kept
to its own row.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from db.errors import UsageError
from producer.sources import packed, separators
from producer.sources.cells import SAVE_AS_UTF8, check_storable, is_empty, is_storable
from producer.sources.manifest import (
    ACCEPTED,
    Context,
    RowError,
    VideoRow,
    address_columns,
    check_columns,
    looks_like_address,
    video,
)
from producer.sources.packed import Lines, UnreadableLineError

_MAX_FIELD_CHARACTERS = 1 << 20
_TAB_SUFFIXES = (".tsv", ".tab")


class _UnclosedQuoteError(Exception):
    """A line that is a row of its own came while a quote was open."""


class _Record:
    """Gives csv.reader its lines, and remembers those of the record it is reading."""

    def __init__(self, lines: Lines, is_row: Callable[[str], bool]) -> None:
        self.lines: list[str] = []
        self.goes_on = False
        self._source = lines
        self._is_row = is_row

    def begin(self) -> None:
        self.lines.clear()
        self.goes_on = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.goes_on = bool(
            self.lines
        )  # more than one line, or the end of the list: only an open quote asks for that
        line = next(self._source)
        if self.goes_on and self._is_row(line):
            self._source.back([line])
            raise _UnclosedQuoteError
        self.lines.append(line)
        return line


def read_table(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of a CSV or TSV list. Columns as in `producer.sources.manifest`, in any case.

    Of two columns for one thing the first with a value counts; a column nobody knows is kept as an
    attribute. Raises `UsageError` at once, before any row: unreadable, empty, its first line not
    UTF-8, no address column, a column twice.
    """
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    with packed.opened(path) as file:
        _, header = _header(path, Lines(file))
    if not any(header):
        raise UsageError(
            f"{path} is empty: it has no columns, of which one must hold the address; accepted: "
            f"{ACCEPTED}"
        )
    check_columns(path, header)
    return _opened_again(path, context)


def _opened_again(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    with packed.opened(path) as file:
        lines = Lines(file)
        separator, header = _header(path, lines)
        yield from _rows(path.name, lines, separator, header, context)


def _header(path: Path, lines: Lines) -> tuple[str, list[str]]:
    """The separator, and the names in the first line that is not empty."""
    usual = "\t" if any(suffix.lower() in _TAB_SUFFIXES for suffix in path.suffixes) else ","
    try:
        line = next((line for line in lines if line.strip()), "")
        if not is_storable(line):
            raise UsageError(f"{path} line {lines.number} is not UTF-8 text; {SAVE_AS_UTF8}")
        if (separator := separators.stated(line)) is not None:
            return separator, separators.cells(next(lines, ""), separator)
        return separators.header(line, usual, lambda names: bool(address_columns(names)))
    except (csv.Error, UnreadableLineError) as error:
        raise UsageError(f"{path} line {lines.number}: {error}") from error


def _rows(
    name: str, lines: Lines, separator: str, header: list[str], context: Context
) -> Iterator[VideoRow | RowError]:
    addresses = address_columns(header)
    at = [index for index, column in enumerate(header) if column.lower() in addresses]

    def is_row(line: str) -> bool:
        cells = next(csv.reader([line], delimiter=separator), [])
        return at[0] < len(cells) <= len(header) and any(
            looks_like_address(cells[i]) for i in at if i < len(cells)
        )

    record = _Record(lines, is_row)
    reader = csv.reader(record, delimiter=separator)
    while True:
        row: VideoRow | RowError
        record.begin()
        begins = lines.number + 1
        try:
            cells = next(reader)
            if record.goes_on:
                _refuse_open_quote(record.lines, separator)
            if not any(cells):
                continue
            row = video(_named(header, cells), addresses, context)
        except StopIteration:
            return
        except _UnclosedQuoteError:
            row = _unclosed(name, begins, record.lines)
        except UnreadableLineError as error:
            row = RowError(f"{name} line {lines.number}", str(error))
        except (ValueError, csv.Error) as error:
            is_open = record.goes_on and isinstance(error, csv.Error)
            row = (
                _unclosed(name, begins, record.lines)
                if is_open
                else RowError(f"{name} line {begins}", str(error))
            )
        yield row


def _refuse_open_quote(lines: list[str], separator: str) -> None:
    """Raises `csv.Error` where a text of several lines does not end with its quote."""
    for _ in csv.reader(lines, delimiter=separator, strict=True):
        pass


def _unclosed(name: str, begins: int, lines: list[str]) -> RowError:
    """The quote that was open at the end: its line, and how far the bad row goes."""
    opened, is_open = 0, False
    for index, line in enumerate(lines):
        for _ in range(line.count('"')):
            is_open = not is_open
            opened = index if is_open else opened
    first, last = begins + opened, begins + len(lines) - 1
    lost = f"; lines {first} to {last} are one bad row" if last > first else ""
    reason = (
        f"a quote begins here and is not closed{lost}; close it, or write it twice inside a quoted "
        "text"
    )
    return RowError(f"{name} line {first}", reason)


def _named(header: list[str], cells: list[str]) -> dict[str, str]:
    """The row's values by column; missing ones are left out. Raises `ValueError`: too many cells,
    unstorable text.
    """
    if len(cells) > len(header) and any(cells[len(header) :]):
        raise ValueError(
            f"{len(cells)} cells under {len(header)} columns; put quotes around text with the "
            "separator"
        )
    pairs = list(zip(header, cells, strict=False))
    if not is_storable("".join(cells)):
        for name, cell in pairs:
            check_storable(name, cell)
    stripped = ((name, cell.strip()) for name, cell in pairs)
    return {name: cell for name, cell in stripped if name and not is_empty(cell)}
