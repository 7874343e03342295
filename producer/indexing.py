"""What `reelvec db index` does: each index that is missing, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import session
from db.administration import indexes, server_facts

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.administration.indexes import Index, Progress, Resources


@dataclass(frozen=True)
class Made:
    """An index that is there now. `seconds`: its build took; None: it was there before."""

    encoder: str
    table: str
    name: str
    vectors: int
    seconds: float | None
    size_bytes: int


def make(
    database: Engine,
    names: Sequence[str],
    *,
    windows: bool,
    say: Callable[[str], None],
    tell: Callable[[int, int], None],
) -> list[Made]:
    """Indexes of the encoders named, or of all. `tell` hears how many vectors of how many are in.

    Raises `UsageError` for an encoder without vectors, `BusyError` while another builds.
    """
    with session.transaction(database) as connection:
        found = indexes.chosen(indexes.find(connection, windows=windows), names)
    return [_made(database, index, say, tell) for index in found]


def _made(
    database: Engine, index: Index, say: Callable[[str], None], tell: Callable[[int, int], None]
) -> Made:
    seconds = None
    with session.transaction(database) as connection:
        builder = server_facts.builder(connection)
    if not index.is_there:
        given = indexes.resources(index, builder)
        say(_told(index, given))
        phases: set[str] = set()

        def watch(now: Progress) -> None:
            tell(now.vectors, index.vectors)
            if now.phase not in phases:
                phases.add(now.phase)
                say(f"{index.encoder}: {now.phase}")

        started = time.monotonic()
        indexes.build(database, index, given, watch=watch)
        seconds = round(time.monotonic() - started, 1)
    with session.transaction(database) as connection:
        size_bytes = indexes.size_bytes(connection, index)
    if size_bytes > builder.shared_buffers_bytes:
        say(
            f"{index.encoder}: the index has {size_bytes / 1e6:,.0f} MB, the server's cache "
            f"{builder.shared_buffers_bytes / 1e6:,.0f} MB: searches take twice the time. If the "
            "server can have more, run ALTER SYSTEM SET shared_buffers and restart it"
        )
    return Made(index.encoder, index.table, index.name, index.vectors, seconds, size_bytes)


def _told(index: Index, given: Resources) -> str:
    """What is built, with what, and what would be better."""
    line = (
        f"{index.encoder}: an index of {index.vectors:,} {_NOUNS[index.table]}, with "
        f"{given.memory_bytes / 1e6:,.0f} MB of maintenance_work_mem and "
        f"{given.workers + 1} processes"
    )
    if index.broken:
        line += f"; {', '.join(index.broken)}, which a broken-off build has left, is dropped"
    if given.memory_bytes < index.graph_bytes:
        line += (
            f". It needs about {index.graph_bytes / 1e6:,.0f} MB to be quick: if the server can "
            "have them, run ALTER ROLE ... SET maintenance_work_mem first"
        )
    return line


_NOUNS = {"video_embeddings": "vectors", "window_embeddings": "vectors of windows"}
