"""What a row of a list says: columns by name, whatever kind of list it stands in."""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from db.errors import UsageError
from producer.categories import Categories, looks_like_id
from producer.sources.cells import is_missing, is_storable, whole
from producer.sources.naming import VIDEO_SUFFIXES
from producer.sources.uris import canonical

#: Columns for the address. Only those of the first group that a list has count: where `s3_url` is,
#: `url` is a web page.
ADDRESS_COLUMNS = (
    ("uri", "s3_url", "s3_uri"),
    ("contenturl", "video_url", "url"),
    ("path", "video_path", "file_path", "file_name", "filename", "file", "video"),
)
ID_COLUMNS = ("external_id", "id", "videoid", "video_id", "youtube_id")
TITLE_COLUMNS = ("title", "name")
ACCEPTED = ", ".join(name for group in ADDRESS_COLUMNS for name in group)
_YOUTUBE_COLUMNS = frozenset({"youtube_id", "youtubeid", "ytid", "yt_id", "youtube"})
_MAX_TUPLE_CHARACTERS = 10_000
_MAX_KEY_CHARACTERS = (
    500  # of columns with an index: Postgres refuses index entries above 2,704 bytes
)
_SCHEME = re.compile(
    r"[a-z][a-z0-9+.-]*:[/\\]|arn:|//[^/\s*]|/[^/\s*]|~|\.{1,2}/|\\\\|www\.", re.IGNORECASE
)


#: What the names of a file and of its folders tell where the source itself says nothing.
FROM_NAMES = frozenset({"category", "title"})


@dataclass(frozen=True)
class VideoRow:
    """One video of a source. `category`: slug of a known category, else the source's own text.

    `derived`: which facts nobody said, as they were made from names; they replace nothing.
    """

    uri: str
    external_id: str | None = None
    category: str | None = None
    title: str | None = None
    group: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    size_bytes: int | None = None
    etag: str | None = None
    warning: str | None = None
    derived: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RowError:
    """One entry of a source that is no video, and where it stands: `videos.csv line 17`."""

    where: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What the rows of a list are read against. `base`: where relative paths start; None
    refuses them.
    """

    base: Path | None
    categories: Categories
    s3_endpoint: str | None


def address_columns(header: Collection[str]) -> tuple[str, ...]:
    """Those columns of a header, in small letters, that hold the address; none: it has none."""
    names = {name.lower() for name in header}
    found = (tuple(name for name in group if name in names) for group in ADDRESS_COLUMNS)
    return next((group for group in found if group), ())


def check_columns(path: Path, header: Sequence[str]) -> None:
    """Raises `UsageError`: no column for the address, a column twice, a name that cannot be
    stored.
    """
    names = [name.lower() for name in header if name]
    if not is_storable("".join(header)):
        raise UsageError(
            f"{path}: the names of its columns hold NUL characters or are not UTF-8 text"
        )
    if not address_columns(names):
        found = ", ".join(name[:60] for name in names[:20]) or "none"
        raise UsageError(
            f"{path} has no column for the address (found: {found}); {_how_to_name_one(names)}"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path} has column {twice!r} twice; rename one")


def _how_to_name_one(names: list[str]) -> str:
    if ids := next((name for name in names if name in _YOUTUBE_COLUMNS), None):
        return (
            f"{ids!r} holds ids of YouTube, and reelvec downloads nothing from there: get the "
            "files yourself where that is allowed, and add a column uri with the path or address "
            "of each"
        )
    accepted = [name for group in ADDRESS_COLUMNS for name in group]
    near = next((name for name in names if re.search("ur[il]|link|path|href|address", name)), None)
    near = near or next(
        (name for name in names if difflib.get_close_matches(name, accepted, n=1, cutoff=0.7)), None
    )
    guess = f"; if {near!r} holds it, rename that column to uri" if near else ""
    return f"accepted: {ACCEPTED}{guess}"


def looks_like_address(text: str) -> bool:
    """Whether a text can only be meant as a path or an address: it begins like one, or ends like a
    video's name.
    """
    return _SCHEME.match(text) is not None or PurePosixPath(text).suffix.lower() in VIDEO_SUFFIXES


def video(values: dict[str, Any], addresses: Sequence[str], context: Context) -> VideoRow:
    """The video of one row; `values` by column, without those that are missing; `addresses` as
    `address_columns` says.

    What no column is known for stays in `attributes`. Raises `ValueError`: what is wrong.
    """
    columns = {name.lower(): name for name in values}

    def take(*names: str) -> str | None:
        """Remove and return the first value there is, and before it those that say there is
        none.
        """
        for name in names:
            if name in columns and columns[name] in values:
                text = _text(name, values[columns[name]])
                missing = is_missing(text)
                del values[columns[name]]
                if not missing:
                    return text
        return None

    address = take(*addresses)
    if address is None:
        raise ValueError(f"no address in column {' or '.join(addresses)}")
    if not looks_like_address(address) and not {".", "/"} & set(address):
        raise ValueError(
            f"{address[:60]!r} is neither a path nor an address; if it is a file without an "
            "ending, write ./ before its name"
        )
    place = canonical(address, base=context.base, s3_endpoint=context.s3_endpoint)
    external_id = take(*ID_COLUMNS)
    external_id = whole(external_id) if external_id else None
    category = _category(take("category", "manual_category_id"), context.categories)
    if category is None and not looks_like_id(
        str(values.get(columns.get("label", ""), ""))
    ):  # a class number stays
        category = _category(take("label"), context.categories)
    for name, value in (("id", external_id), ("category", category)):
        if value is not None and len(value) > _MAX_KEY_CHARACTERS:
            raise ValueError(
                f"{name} has {len(value)} characters; allowed are {_MAX_KEY_CHARACTERS}"
            )
    title = take(*TITLE_COLUMNS)
    if title is None and (parsed := take("parsed_category")) is not None:
        title = _first_of_tuple(parsed)
    return VideoRow(
        place.uri, external_id, category, title, take("group"), values, warning=place.warning
    )


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError(
            f"column {name!r} holds a {'list' if isinstance(value, list) else 'structure'}, not a "
            "text"
        )
    return str(value)


def _category(text: str | None, categories: Categories) -> str | None:
    """The slug; a name of the user's own stays as it is. Raises `ValueError` for an id that nothing
    is known about.
    """
    if text is None:
        return None
    if found := categories.find(text):
        return found.slug
    if looks_like_id(text):
        raise ValueError(
            f"category id {text} belongs to no known category; give the category's name instead"
        )
    return text


def _first_of_tuple(text: str) -> str | None:
    """First item of a Python tuple literal such as `('Title', 'Films')`. Raises `ValueError`:
    malformed or too long.
    """
    if len(text) > _MAX_TUPLE_CHARACTERS:
        raise ValueError(
            f"parsed_category has {len(text)} characters; allowed are {_MAX_TUPLE_CHARACTERS}"
        )
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
    if not is_storable(title):  # an escape such as \x00 in the literal
        raise ValueError(malformed)
    return title or None
