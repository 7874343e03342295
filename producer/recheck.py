"""What `enqueue --recheck` does: finished videos that an older sampler looked at are looked at
again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from db import session
from db.errors import UsageError
from db.jobs import catalogue, recheck, steering
from db.jobs.selection import Selection
from producer import selectors


def refuse(**given: object) -> None:
    """`UsageError` for options of `enqueue` that mean nothing here: nothing is recorded and nothing
    new is wanted.
    """
    others = [f"--{name}" for name, value in given.items() if value]
    if others:
        raise UsageError(
            "--recheck checks videos that are done; it can be combined with SOURCE, --category, "
            "--dry-run, --wait and --json,"
            f" not with {', '.join(others)}"
        )


def selections(categories: Sequence[str], sources: Sequence[str]) -> list[Selection]:
    """One for each place named; without any, all that is recorded. Raises `UsageError`."""
    return [selectors.parse(categories, None, source, None) for source in (*sources,) or (None,)]


def count(engine: Engine, chosen: Sequence[Selection]) -> int:
    """How many videos would be looked at again."""
    with session.transaction(engine) as connection:
        return sum(recheck.count(connection, selection) for selection in chosen)


def run(
    engine: Engine, chosen: Sequence[Selection], *, who: str, what: str
) -> tuple[int, Connection]:
    """Have them looked at again; returns how many, and the connection that remembers them."""
    connection, videos = engine.connect(), 0

    def chunk(selection: Selection, after: int) -> list[int]:
        with session.transaction(connection):
            return recheck.reopen(connection, selection, after_video_id=after)

    try:
        with session.transaction(connection):
            catalogue.begin(connection)
        for selection in chosen:
            after = 0
            while found := session.retrying(functools.partial(chunk, selection, after)):
                videos, after = videos + len(found), max(found)
        with session.transaction(connection):
            steering.rechecked(connection, videos, who=who, what=what)
    except BaseException:
        connection.close()
        raise
    return videos, connection
