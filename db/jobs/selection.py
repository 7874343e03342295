"""Which videos `status --failed`, `retry` and `cancel` mean: one condition for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Selection:
    """What a video must meet, all of it; what is empty asks nothing.

    `uri_prefix` is compared literally. `since` is a moment with its time zone, or how long ago by
    the database's clock.
    """

    categories: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    uri_prefix: str | None = None
    since: datetime | timedelta | None = None


def condition(selection: Selection, *, moment: str) -> tuple[str, dict[str, Any]]:
    """SQL that continues a WHERE over `jobs j` and `videos v`, and its parameters; `moment` is what
    `since` looks at.
    """
    parts: list[str] = []
    facts: dict[str, Any] = {}
    if selection.categories:
        parts.append("v.category = ANY(CAST(:categories AS text[]))")
        facts["categories"] = list(selection.categories)
    if selection.codes:
        parts.append("j.error_code = ANY(CAST(:codes AS text[]))")
        facts["codes"] = list(selection.codes)
    if selection.uri_prefix is not None:
        parts.append("starts_with(v.uri, :uri_prefix)")
        facts["uri_prefix"] = selection.uri_prefix
    if selection.since is not None:
        ago = isinstance(selection.since, timedelta)
        parts.append(f"{moment} >= " + ("now() - CAST(:since AS interval)" if ago else ":since"))
        facts["since"] = selection.since
    return "".join(f" AND {part}" for part in parts), facts


def is_from_anywhere(connection: Connection, uri_prefix: str) -> bool:
    """Whether any recorded video's uri begins like this."""
    statement = text(
        "SELECT EXISTS (SELECT FROM reelvec.videos v WHERE starts_with(v.uri, :prefix))"
    )
    return bool(connection.execute(statement, {"prefix": uri_prefix}).scalar_one())


def recorded_categories(connection: Connection, categories: Sequence[str]) -> set[str]:
    """Those of `categories` that any video has."""
    rows = connection.execute(
        text(
            "SELECT c FROM unnest(CAST(:categories AS text[])) c"
            " WHERE EXISTS (SELECT FROM reelvec.videos v WHERE v.category = c)"
        ),
        {"categories": list(categories)},
    )
    return {str(row[0]) for row in rows}
