"""Waiting for a selection of videos with a live bar, and saying when nobody works on it."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Connection, Engine

from db import catalogue, fleet, session, settings
from db.exit_codes import ExitCode
from producer.desk import say
from workers.settings import WorkerSettings

LOOK_SECONDS = 0.5
#: Nobody alive for this long while videos wait: the wait ends, the videos stay.
STALL_SECONDS = 120.0


def stale_seconds() -> float:
    return settings.load(WorkerSettings).stale_seconds


def until_done(engine: Engine, connection: Connection) -> ExitCode:
    """OK: all done; FINISHED_WITH_FAILURES; FAILED: no worker alive. `connection` remembers the selection."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        states = _follow(engine, connection, progress)
    done, failed = states.get("done", 0), states.get("failed", 0)
    total = sum(states.values())
    if done + failed + states.get("cancelled", 0) < total:
        say(f"STALLED {total - done - failed:,} waiting, no worker alive: run reelvec worker; nothing is lost")
        return ExitCode.FAILED
    say(f"DONE {done:,} done, {failed:,} failed" + (" → reelvec status --failed" if failed else ""))
    return ExitCode.FINISHED_WITH_FAILURES if failed else ExitCode.OK


def _follow(engine: Engine, connection: Connection, progress: Progress) -> dict[str, int]:
    bar = progress.add_task("waiting")
    stale = stale_seconds()
    last_alive = time.monotonic()
    while True:
        with connection.begin():
            states = catalogue.selection_states(connection)
        ended = sum(states.get(state, 0) for state in ("done", "failed", "cancelled"))
        total = sum(states.values())
        progress.update(
            bar,
            total=total,
            completed=ended,
            description=f"done {states.get('done', 0)} failed {states.get('failed', 0)}",
        )
        if ended == total:
            return states
        with session.transaction(engine) as looking:
            alive = fleet.read(looking, stale_seconds=stale).alive
        if alive:
            last_alive = time.monotonic()
        elif time.monotonic() - last_alive > STALL_SECONDS:
            return states
        time.sleep(LOOK_SECONDS)
