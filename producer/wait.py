"""Waiting for a selection of videos with a live bar, and saying what holds them up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from sqlalchemy import Connection, Engine

from db.exit_codes import ExitCode
from db.jobs import catalogue
from producer.desk import say
from producer.status import snapshot
from producer.status.broker import Question
from producer.status.verdict import Verdict

POLL_SECONDS = 0.5
#: The whole ledger and the broker are looked at this often, so that nothing is waited for without a
#: word. A worker that was started together with this command is ready by then.
VERDICT_SECONDS = 10.0
#: Nothing can go on for this long: the wait ends, the videos stay.
STALL_SECONDS = 120.0
HOPELESS = ("STALLED", "BLOCKED")


@dataclass
class StallWatch:
    """What is said while others work: each new trouble once, and when it is over. Pure but for
    `tell`.
    """

    tell: Callable[[str], None]
    said: str | None = None
    hopeless_since: float | None = None

    def is_over(self, verdict: Verdict, now: float) -> bool:
        """Whether nothing could go on for `STALL_SECONDS`, as of this look at `now` (seconds of any
        clock).
        """
        if verdict.state not in HOPELESS:
            self.hopeless_since = None
        elif self.hopeless_since is None:
            self.hopeless_since = now
        if verdict.exit_code and verdict.state != self.said:
            self.tell(verdict.line)
            self.said = verdict.state
        elif not verdict.exit_code and self.said is not None:
            self.tell(verdict.line)
            self.said = None
        return self.hopeless_since is not None and now - self.hopeless_since >= STALL_SECONDS


@dataclass(frozen=True)
class Ended:
    """What became of the videos that were waited for; `left` still wait, as nothing goes on."""

    done: int
    failed: int
    cancelled: int
    left: int

    @property
    def stalled(self) -> str:
        """What to say where some are left."""
        return (
            f"no progress for {STALL_SECONDS:g} s: {self.left:,} of these videos still waiting; "
            "nothing is lost"
        )


def until_done(database: Engine, connection: Connection, broker_url: str) -> ExitCode:
    """OK: all done; FINISHED_WITH_FAILURES; FAILED: nothing goes on. `connection` remembers the
    selection.
    """
    ended = follow(database, connection, broker_url)
    if ended.left:
        say(ended.stalled)
        return ExitCode.FAILED
    done, failed = ended.done, ended.failed
    failures = f"{failed:,} failed → reelvec status --failed" if failed else "0 failed"
    say(
        f"DONE {done:,} done, {failures}"
        if done or not failed
        else f"FAILED all of them: {failures}"
    )
    return ExitCode.FINISHED_WITH_FAILURES if failed else ExitCode.OK


def follow(database: Engine, connection: Connection, broker_url: str) -> Ended:
    """Wait, with a bar on a terminal, until all videos that `connection` remembers have ended, or
    nothing goes on.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        states = _follow(database, connection, broker_url, progress)
    done, failed, cancelled = (states.get(name, 0) for name in ("done", "failed", "cancelled"))
    return Ended(done, failed, cancelled, sum(states.values()) - done - failed - cancelled)


def _follow(
    database: Engine, connection: Connection, broker_url: str, progress: Progress
) -> dict[str, int]:
    """Until all have ended, or nothing goes on. The bar counts what got done; failures are beside
    it.
    """
    bar = progress.add_task("done")
    stall_watch = StallWatch(say)
    next_verdict = time.monotonic() + VERDICT_SECONDS
    while True:
        with connection.begin():
            states = catalogue.selection_states(connection)
        failed, total = states.get("failed", 0), sum(states.values()) - states.get("cancelled", 0)
        said = f"[red]failed {failed:,}[/red], done" if failed else "done"
        progress.update(bar, total=total, completed=states.get("done", 0), description=said)
        if states.get("done", 0) + failed == total:
            return states
        if time.monotonic() >= next_verdict:
            if stall_watch.is_over(
                snapshot.take(database, Question(broker_url)).verdict, time.monotonic()
            ):
                return states
            next_verdict = time.monotonic() + VERDICT_SECONDS
        time.sleep(POLL_SECONDS)
