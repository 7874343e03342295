"""Tables and JSON on stdout. On a terminal columns are aligned; in a pipe lines are as Postgres's
COPY writes them: a header, tabs between the cells, `\\N` for NULL, and `\\t` `\\n` `\\\\` for what
a cell holds of tabs, newlines and backslashes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_NULL, _NULL_ON_TERMINAL = r"\N", "NULL"
_ESCAPES = {
    "\\": r"\\",
    "\t": r"\t",
    "\n": r"\n",
    "\r": r"\r",
    "\b": r"\b",
    "\f": r"\f",
    "\v": r"\v",
}


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """`right`: columns of numbers, on a terminal aligned to the right."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(map(piped, row)))  # noqa: T201
        return
    from rich.console import Console

    Console(highlight=False).print(drawn_table(columns, rows, right=right))


def drawn_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> Table:
    """The same as rich draws it on a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))  # a name may hold [brackets]
    return table


def piped(cell: object) -> str:
    """One cell for a program: it gets every character back."""
    if cell is None:
        return _NULL
    return "".join(_ESCAPES.get(character, character) for character in _text(cell))


def shown(cell: object) -> str:
    """One cell for a person: what would move the cursor is escaped."""
    if cell is None:
        return _NULL_ON_TERMINAL
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in _text(cell)
    )


def _text(cell: object) -> str:
    return json_text(cell) if isinstance(cell, dict | list) else str(cell)


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON in which letters of every script stay letters."""
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def print_json(value: object, *, indent: int | None = None) -> None:
    """Where stdout's encoding lacks a letter (a locale without UTF-8), the line is ASCII and says
    the same.
    """
    text = json_text(value, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, default=str, indent=indent)
    print(text)  # noqa: T201
