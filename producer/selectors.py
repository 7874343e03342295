"""The selectors `--category --error --source --since`, the same for `status --failed`, `retry` and
`cancel`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from db.errors import VIDEO_ERROR_CLASSES, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.jobs.selection import Selection

CATEGORY_FORMS = "slug, id, English or Russian name, or folder name"
SOURCE_FORMS = "a folder or file, s3://bucket/prefix, or the beginning of an http(s) address"
SINCE_FORMS = "30m, 2h, 3d or 1w ago, or a date or time such as 2026-01-31 or 2026-01-31T18:00"

Categories = Annotated[
    list[str] | None,
    typer.Option("--category", help=f"Only of this category: {CATEGORY_FORMS}. Repeatable."),
]
Errors = Annotated[
    list[str] | None, typer.Option("--error", help="Only with this error code. Repeatable.")
]
Source = Annotated[
    str | None, typer.Option("--source", metavar="PREFIX", help=f"Only from there: {SOURCE_FORMS}.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help=f"Only since then: {SINCE_FORMS}.")
]

_AGO = re.compile(r"([0-9]{1,5}) ?(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Selectors:
    """The selectors as they were typed."""

    categories: Sequence[str] | None = None
    errors: Sequence[str] | None = None
    source: str | None = None
    since: str | None = None

    def parsed(self) -> Selection:
        """What was asked for, without a database. Raises `UsageError`: an unknown code, a source
        or time in no known form.
        """
        from db.jobs.selection import Selection

        categories = [spelling for text in self.categories or () for spelling in _spellings(text)]
        return Selection(
            categories=tuple(categories),
            codes=tuple(_code(text) for text in self.errors or ()),
            uri_prefix=None if self.source is None else _prefix(self.source),
            since=None if self.since is None else _moment(self.since),
        )

    def __str__(self) -> str:
        """As they could be typed again, for the records."""
        given = [
            *(("--category", text) for text in self.categories or ()),
            *(("--error", text) for text in self.errors or ()),
            ("--source", self.source),
            ("--since", self.since),
        ]
        return shlex.join(word for name, text in given if text is not None for word in (name, text))


def refuse_unknown_categories(connection: Connection, categories: Sequence[str] | None) -> None:
    """`UsageError` for a category that no recorded video has: a mistyped one must not look like
    "nothing failed".
    """
    from db.jobs import catalogue, selection
    from producer.categories import Categories, load_shipped

    for text in categories or ():
        if selection.recorded_categories(connection, _spellings(text)):
            continue
        recorded = sorted(catalogue.known_categories(connection))
        shipped = tuple(one for one in load_shipped().all if one.slug in recorded)
        near = Categories(shipped).suggest(text, recorded)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"they have: {', '.join(recorded[:10]) or 'none'}"
        )
        raise UsageError(f"no recorded video has category {text!r}; {hint} (by {CATEGORY_FORMS})")


def unknown_source(connection: Connection, selection: Selection) -> str | None:
    """What to say beside a selection of nothing: that no video at all is from its `--source`."""
    from db.jobs import selection as selections

    prefix = selection.uri_prefix
    if prefix is None or selections.is_from_anywhere(connection, prefix):
        return None
    return f"--source: no recorded video is from {prefix}; a source is {SOURCE_FORMS}"


def recorded_category(connection: Connection, category: str) -> str:
    """The same category as recorded videos have it. Raises as `refuse_unknown_categories`."""
    from db.jobs import selection

    refuse_unknown_categories(connection, [category])
    return min(selection.recorded_categories(connection, _spellings(category)))


def _spellings(text: str) -> list[str]:
    """As it was written, for categories of the user's own, and the slug of the shipped one it
    names.
    """
    from producer.categories import load_shipped

    found = load_shipped().find(text)
    return list(dict.fromkeys([text, found.slug] if found else [text]))


def _code(text: str) -> str:
    import difflib

    if text in VIDEO_ERROR_CLASSES:
        return text
    near = difflib.get_close_matches(text, VIDEO_ERROR_CLASSES, n=1)
    hint = (
        f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(VIDEO_ERROR_CLASSES))}"
    )
    raise UsageError(f"--error: no error code {text!r}; {hint}")


def _prefix(text: str) -> str:
    """The beginning of canonical uris. A bucket or an existing folder stands for itself, not for
    `bucket2` beside it.
    """
    from producer.sources.uris import canonical
    from workers.sources.s3_endpoint import endpoint
    from workers.sources.schemes import SCHEMES, Naming, key_of, naming_of

    scheme, _, rest = text.partition("://")
    if rest and scheme in SCHEMES and SCHEMES[scheme].naming is Naming.KEY:
        # keys are stored as they are, and a prefix may be none
        return text if "/" in rest else f"{text}/"
    try:
        uri = canonical(text, base=Path.cwd(), s3_endpoint=endpoint().host).uri
    except ValueError as error:
        raise UsageError(f"--source: {error}; a source is {SOURCE_FORMS}") from error
    is_path = naming_of(uri) is Naming.PATH
    is_folder = is_path and (text.endswith("/") or Path(key_of(uri)).is_dir())
    return f"{uri.rstrip('/')}/" if is_folder else uri


def _moment(text: str) -> datetime | timedelta:
    """How long ago, or when: a time without a zone is this machine's."""
    if match := _AGO.fullmatch(text.strip()):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since: {text!r} is not a time; write {SINCE_FORMS}") from error
