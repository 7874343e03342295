"""Which separator a table of text has, by its first line: lists and label files share it. Pure."""

from __future__ import annotations

import csv
from collections.abc import Callable

SEPARATORS = ",;\t|"


def header(line: str, usual: str, is_header: Callable[[list[str]], bool]) -> tuple[str, list[str]]:
    """The separator and the names of the columns: by the first separator whose names `is_header`
    accepts, `usual` before all others; where none does, by the one that makes most of the line.

    Raises `csv.Error`.
    """
    candidates = [usual, *(separator for separator in SEPARATORS if separator != usual)]
    found = {separator: cells(line, separator) for separator in candidates}
    best = max(
        candidates, key=lambda separator: (is_header(found[separator]), len(found[separator]))
    )
    return best, found[best]


def stated(line: str) -> str | None:
    """The separator that a first line such as `sep=;` states, as Excel writes it; None: it is no
    such line.
    """
    if line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == len("sep=") + 1:
        return line[len("sep=")]
    return None


def cells(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
