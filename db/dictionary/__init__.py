"""What every table, view, column and function means: the one place for the comments that psql shows
(`\\d+`) and for docs/schema.md.

A head stands at the beginning of a line, what it means is indented below it. A column's head has
its type, too, which a test compares with the database's. Migrations write no comments: whatever
brings a schema to its newest revision writes these (`db.dictionary.writing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from db.dictionary import fleet, functions, recorded, results, work

_KINDS = ("SCHEMA", "TABLE", "VIEW", "FUNCTION")


@dataclass(frozen=True)
class Entry:
    """`kind` is one of `_KINDS`, or COLUMN, whose `name` is `table.column`. `type`: a column's."""

    kind: str
    name: str
    words: str
    type: str = ""


def _parsed(page: str) -> list[Entry]:
    entries: list[Entry] = []
    relation = ""
    for head, body in re.findall(r"^(\S.*)\n((?: +.*\n)+)", page, re.MULTILINE):
        words = " ".join(body.split())
        kind, _, name = head.partition(" ")
        if kind in _KINDS:
            relation = name
            entries.append(Entry(kind, name, words))
        else:
            entries.append(Entry("COLUMN", f"{relation}.{kind}", words, type=name))
    return entries


#: In the order of docs/schema.md.
PAGES = {
    "What was recorded": _parsed(recorded.PAGE),
    "What came of it": _parsed(results.PAGE),
    "The work on it": _parsed(work.PAGE),
    "The fleet": _parsed(fleet.PAGE),
    "Functions": _parsed(functions.PAGE),
}
ENTRIES = [entry for entries in PAGES.values() for entry in entries]
