"""What a cell of a list may hold: text that Postgres can store, numbers, dates, and the ways of
writing "nothing". Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

#: How programs write a missing value where text stands (pandas' own list, and NaT): never
#: somebody's id or category.
_MISSING = frozenset({"", "nan", "-nan", "null", "none", "nat", "n/a", "na", "<na>", "#n/a", "#na"})
#: In a column that nobody knows, `NA` may be Namibia: there only what cannot mean anything is left
#: out.
_EMPTY = frozenset({"", "nan", "NaN"})
#: What Postgres cannot store: NUL, and the surrogates that stand for bytes that are not text.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_FLOATED = re.compile(r"([+-]?[0-9]+)\.0+")
_MAX_DEPTH = 20

SAVE_AS_UTF8 = (
    "save the list as UTF-8, for example with: iconv -f cp1251 -t utf-8 OLD > NEW (cp1251 for "
    "Russian Windows, cp1252 for Western European)"
)


def is_missing(text: str) -> bool:
    """Whether a cell of a known column says that there is nothing."""
    return text.lower() in _MISSING


def is_storable(text: str) -> bool:
    return _UNSTORABLE.search(text) is None


def check_storable(name: str, cell: str) -> None:
    """Raises `ValueError` for text that Postgres cannot hold."""
    bad = _UNSTORABLE.search(cell)
    if bad is None:
        return
    if bad[0] == "\0":
        raise ValueError(f"column {name!r}: a NUL character; write the list again without it")
    raise ValueError(f"column {name!r}: not UTF-8 text; {SAVE_AS_UTF8}")


def whole(text: str) -> str:
    """`12` for `12.0`: what pandas makes of whole numbers once one of the column is missing."""
    match = _FLOATED.fullmatch(text)
    return text if match is None else match[1]


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values without missing ones, as JSON can hold them. Raises `ValueError`: what cannot
    be stored.
    """
    check_storable("of this name", "".join(values))
    converted = {name: plain(name, value) for name, value in values.items()}
    return {
        name: value
        for name, value in converted.items()
        if value is not None and not (isinstance(value, str) and value in _EMPTY)
    }


def is_empty(cell: str) -> bool:
    """Whether a cell of an unknown column says nothing."""
    return cell in _EMPTY


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it; None where it is no number. Raises `ValueError`: unstorable
    text, bytes, too deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"column {name!r} is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case str():
            check_storable(name, value)
            result: Any = value.strip()
        case None | bool() | int():
            result = value
        case float():
            result = _number(value)
        case Decimal():
            result = (
                None if not value.is_finite() else int(value) if value == int(value) else str(value)
            )
        case timedelta():
            result = _number(value.total_seconds())
        case datetime() | date() | time():
            result = value.isoformat()
        case bytes():
            result = _text_of(name, value)
        case list() | tuple():
            result = [plain(name, item, depth + 1) for item in value]
        case dict():
            result = {
                plain(name, str(key)): plain(name, item, depth + 1) for key, item in value.items()
            }
        case _:
            result = plain(name, str(value))
    return result


def _number(value: float) -> float | int | None:
    """pandas makes floats of integers with gaps: 12.0 is the id 12. Infinity and NaN are no
    JSON.
    """
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def _text_of(name: str, value: bytes) -> str:
    """Some programs write text as bytes without saying that it is text."""
    try:
        text = value.decode()
        check_storable(name, text)
    except ValueError as error:
        raise ValueError(
            f"column {name!r} holds bytes; write it as text or leave it out"
        ) from error
    return text.strip()
