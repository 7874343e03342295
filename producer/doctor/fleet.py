"""The workers: who lives, who went silent, and whether they are of one version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from producer.doctor.check import Check, Finding, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from db.administration.server_facts import WorkerRow

GROUP = "Workers"
SHOWN = 3


def checks() -> list[Check]:
    return [Check(GROUP, "workers", findings)]


def findings() -> Iterator[Finding]:
    from db import schema, session, settings
    from db.administration import server_facts
    from db.errors import RefusedConfigurationError, UnavailableError, UsageError
    from db.progress import fleet
    from workers.settings import WorkerSettings

    where = servers()
    if where is None:
        yield skipped("workers", "no database to ask")
        return
    stale_seconds = settings.load(WorkerSettings).stale_seconds
    try:
        with (
            session.connect(where.database_url, pool_size=1) as database,
            session.transaction(database) as connection,
        ):
            schema.check(connection)
            rows = server_facts.workers(connection)
            waiting = server_facts.videos_wait(connection)
            found = fleet.read(connection, stale_seconds=stale_seconds)
    except (UnavailableError, RefusedConfigurationError, UsageError):  # said under Postgres
        yield skipped("workers", "no database to ask")
        return
    yield from judge(rows, stale_seconds, metadata.version("reelvec"), waiting=waiting)
    if found.paused:
        reason = f": {found.pause_reason}" if found.pause_reason else ""
        yield warn("pause", f"paused{reason}: no worker claims a video", "reelvec pause --resume")


def judge(
    rows: Sequence[WorkerRow], stale_seconds: float, version: str, *, waiting: bool
) -> Iterator[Finding]:
    alive = [row for row in rows if row.beat_age_seconds < stale_seconds]
    silent = [row for row in rows if row.beat_age_seconds >= stale_seconds]
    if alive:
        yield ok("workers", f"{len(alive)} alive: {_shown(alive)}")
    elif waiting:
        yield warn(
            "workers",
            "none alive, and videos wait",
            "reelvec worker, on a node with the same addresses",
        )
    else:
        yield ok("workers", "none alive; no video waits")
    if silent:
        yield warn(
            "silent workers",
            f"{len(silent)} stopped without saying so (last heartbeat "
            f"{min(row.beat_age_seconds for row in silent):.0f} s ago):"
            f" {_shown(silent)}",
            "look at their logs; live workers take their videos back, and forget them after a day",
        )
    versions = Counter(row.version for row in alive)
    if set(versions) - {version}:
        fact = ", ".join(f"{found} ({count})" for found, count in sorted(versions.items()))
        yield warn(
            "versions",
            f"workers are {fact}, this is {version}",
            "install the same version everywhere",
        )


def _shown(rows: Sequence[WorkerRow]) -> str:
    named = ", ".join(f"{row.host} {row.device}" for row in rows[:SHOWN])
    return named + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
