"""What `enqueue --recheck` does: finished videos that an older sampler looked at are looked at
again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields

from sqlalchemy import Connection

from db import session
from db.errors import UsageError
from db.jobs import catalogue, recheck, steering
from db.jobs.selection import Selection
from producer.request import Options
from producer.selectors import Selectors

#: What of `enqueue`'s options says which videos are meant.
_SELECTORS = ("sources", "only_categories")
#: Options that are not called as the field is.
_NAMES = {
    "as_category": "as",
    "backbones": "backbone",
    "keep_context": "keep-context",
    "keep_frames": "keep-frames",
}


def refuse_others(options: Options) -> None:
    """`UsageError` for options of `enqueue` that mean nothing here: nothing is recorded and nothing
    new is wanted.
    """
    others = [
        f"--{_NAMES.get(field.name, field.name)}"
        for field in fields(options)
        if field.name not in _SELECTORS and getattr(options, field.name) != field.default
    ]
    if others:
        raise UsageError(
            "--recheck checks videos that are done; it can be combined with SOURCE, --category, "
            f"--dry-run, --wait and --json, not with {', '.join(others)}"
        )


def selections(categories: Sequence[str], sources: Sequence[str]) -> list[Selection]:
    """One for each place named; without any, all that is recorded. Raises `UsageError`."""
    return [Selectors(categories, source=source).parsed() for source in (*sources,) or (None,)]


def count(connection: Connection, chosen: Sequence[Selection]) -> int:
    """How many videos would be looked at again."""
    with session.transaction(connection):
        return sum(recheck.count(connection, selection) for selection in chosen)


def run(connection: Connection, chosen: Sequence[Selection], *, who: str, what: str) -> int:
    """Have them looked at again; returns how many. `connection` remembers them afterwards."""
    videos = 0

    def chunk(selection: Selection, after: int) -> list[int]:
        with session.transaction(connection):
            return recheck.reopen(connection, selection, after_video_id=after)

    with session.transaction(connection):
        catalogue.begin(connection)
    for selection in chosen:
        after = 0
        while found := session.retrying(functools.partial(chunk, selection, after)):
            videos, after = videos + len(found), max(found)
    with session.transaction(connection):
        steering.rechecked(connection, videos, who=who, what=what)
    return videos
