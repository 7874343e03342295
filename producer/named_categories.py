"""The categories that an enqueue names: those that `--category` chooses, one that `--as` makes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from db.errors import UsageError
from db.jobs import catalogue, selection
from producer.request import Request

CATEGORIES_SHOWN = 10


def chosen(
    connection: Connection, request: Request, in_source: Callable[[], set[str]]
) -> frozenset[str] | None:
    """Slugs that `--category` means; None: all. One that no list, no recorded video and no source
    knows is a `UsageError`. `in_source` reads the sources, if it must.
    """
    if not request.only_categories:
        return None
    known, unknown = set(), []
    recorded = catalogue.known_categories(connection)
    connection.rollback()  # reading a source takes long
    for text in request.only_categories:
        found = request.categories.find(text)
        if found is not None:
            known.add(found.slug)
        elif text in recorded or request.categories.has_label(text):
            known.add(text)
        else:
            unknown.append(text)
    if unknown:
        there = in_source() if request.sources and "-" not in request.sources else set()
        for text in unknown:
            if text not in there:
                _refuse(text, request, recorded | there)
        known.update(unknown)
    return frozenset(known)


def made_anew(connection: Connection, request: Request) -> str | None:
    """What to say of a category that only `--as` knows: it is right for one's own, and may be a
    slip of the hand.
    """
    name = request.as_category
    if name is None or request.categories.find(name) or request.categories.has_label(name):
        return None
    if selection.recorded_categories(connection, [name]):
        return None
    near = request.categories.slip_of(name, catalogue.known_categories(connection))
    return f"{name} is a new category" + (f"; did you mean {near}?" if near else "")


def _refuse(text: str, request: Request, others: set[str]) -> None:
    near = request.categories.suggest(text, sorted(others))
    known = ", ".join(sorted(category.slug for category in request.categories.all))
    hint = f"did you mean {', '.join(near)}?" if near else f"the known ones are {known}."
    own = f" Your videos have {', '.join(sorted(others)[:CATEGORIES_SHOWN])}." if others else ""
    raise UsageError(f"no category {text!r}; {hint}{own}")
