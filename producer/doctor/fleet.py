"""The workers: who lives, who went silent, and whether they are of one version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from producer.doctor.check import Check, Finding, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from db.canary.drifts import Drifts
    from db.progress.fleet import Fleet, FleetWorker

GROUP = "Workers"
SHOWN = 3


def checks() -> list[Check]:
    return [Check(GROUP, "workers", findings)]


def findings() -> Iterator[Finding]:
    from db import schema, session, settings
    from db.administration import server_facts
    from db.canary import drifts
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
            waiting = server_facts.videos_wait(connection)
            found = fleet.read(connection, stale_seconds=stale_seconds)
            drifted = drifts.read(connection)
    except (UnavailableError, RefusedConfigurationError, UsageError):  # said under Postgres
        yield skipped("workers", "no database to ask")
        return
    yield from judge(found, metadata.version("reelvec"), waiting=waiting)
    yield from judge_drifts(drifted)
    if found.paused:
        reason = f": {found.pause_reason}" if found.pause_reason else ""
        yield warn("pause", f"paused{reason}: no worker takes a video", "reelvec pause --resume")


def judge_drifts(seen: Drifts) -> Iterator[Finding]:
    """Workers that compute something else than others, and encoders about which they differ."""
    for drift in seen.refused:
        yield warn(
            "canary",
            f"{drift.worker} makes nothing of {drift.encoder}: {drift.reason}",
            f"look at its card and memory, or reelvec models accept {drift.encoder} --worker "
            f"{drift.worker} if it is right",
        )
    for dispute in seen.disputed:
        yield warn(
            "canary",
            f"{' and '.join(dispute.workers)} make different vectors with {dispute.encoder}",
            f"start one more worker on another machine, or reelvec models accept {dispute.encoder} "
            "--worker NAME",
        )


def judge(found: Fleet, version: str, *, waiting: bool) -> Iterator[Finding]:
    alive, silent = found.workers, found.stale
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
            f"{min(row.beat_seconds for row in silent):.0f} s ago): {_shown(silent)}",
            "look at their logs; live workers take their videos back, and forget them after a day",
        )
    versions = Counter(row.version for row in alive)
    if set(versions) - {version}:
        fact = ", ".join(f"{one} ({count})" for one, count in sorted(versions.items()))
        yield warn(
            "versions",
            f"workers are {fact}, this is {version}",
            "install the same version everywhere",
        )


def _shown(rows: Sequence[FleetWorker]) -> str:
    named = ", ".join(f"{row.host} {row.device}" for row in rows[:SHOWN])
    return named + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
