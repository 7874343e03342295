"""`reelvec retry | cancel | pause`: what an operator does to waiting and failed videos. Each step
is recorded.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from producer import selectors
from producer.commands import options
from producer.desk import open_database, operator, say
from producer.tables import print_json
from producer.wording import plural

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.jobs.steering import Cancelled

#: Millions of rows are changed in one statement.
STATEMENT_SECONDS = 600.0


def retry(
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    outdated: Annotated[
        bool,
        typer.Option(
            "--outdated",
            help="Only failures of an older version that this one may handle better, such as "
            "formats that it reads now.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Queue failed videos again, as if they had never been tried.

    Without an option it is all of them; --category, --error, --source and --since choose some.
    --since compares with the time when they failed.

    Example: reelvec retry --error access_denied --since 2h
    """
    from db import session
    from db.jobs import steering
    from workers import feeder
    from workers.app import app

    chosen = selectors.Selectors(category, error, source, since)
    selection, record = chosen.parsed(), _record(str(chosen), "--outdated" * outdated)
    with open_database(statement_seconds=STATEMENT_SECONDS) as database:
        with session.transaction(database) as connection:
            selectors.refuse_unknown_categories(connection, category)
            count = steering.retry(connection, selection, outdated=outdated, **record)
            strange = None if count else selectors.unknown_source(connection, selection)
        if strange is not None:
            say(strange)
        say(f"{plural(count, 'failed video is', 'failed videos are')} waiting again")
        if as_json:
            print_json({"retried": count})
        feeder.feed(database, app)


def cancel(
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            help="Withdraw only this model: it is computed for no further video. Repeatable.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Take waiting videos off the queue; those that are being worked on are finished. `enqueue`
    brings them back.

    Without an option it is all of them; --category, --error, --source and --since choose some.
    --since compares with the time when they were enqueued. Videos that have vectors already become
    done with what they have. With --backbone only this model is withdrawn: videos that want no
    other model are done, the others go on, and the vectors it has made stay.

    Example: reelvec cancel --category films
    """
    from dataclasses import asdict

    from db.jobs import steering

    chosen = selectors.Selectors(category, error, source, since)
    selection, names = chosen.parsed(), _backbones(backbone)
    record = _record(*(f"--backbone {name}" for name in names), str(chosen))
    with _one_transaction(STATEMENT_SECONDS) as connection:
        selectors.refuse_unknown_categories(connection, category)
        if names:
            found = steering.withdraw(connection, names, selection, **record)
        else:
            found = steering.cancel(connection, selection, **record)
        strange = None if found.videos else selectors.unknown_source(connection, selection)
    if strange is not None:
        say(strange)
    say(_withdrawn(names, found) if names else _cancelled(found))
    if as_json:
        print_json(
            {name: count for name, count in asdict(found).items() if count or name == "cancelled"}
        )


def _cancelled(found: Cancelled) -> str:
    if not found.cancelled and not found.done:
        return "none of these videos was waiting: nothing is cancelled"
    parts = []
    if found.cancelled:
        parts.append(
            f"{plural(found.cancelled, 'waiting video is', 'waiting videos are')} cancelled"
        )
    if found.done:
        ends = ("gets", "counts") if found.done == 1 else ("get", "count")
        that = plural(found.done, "video that", "videos that")
        parts.append(f"{that} had some vectors already {ends[0]} no more, and {ends[1]} as done")
    return "; ".join(parts)


def _withdrawn(names: list[str], found: Cancelled) -> str:
    if not found.videos:
        return f"none of these videos wants {' or '.join(names)}"
    parts = {
        "done with what they have": found.done,
        "waiting for other models": found.waiting,
        "failed": found.failed,
        "cancelled, as they have nothing and want nothing else": found.cancelled,
    }
    states = ", ".join(f"{count:,} {state}" for state, count in parts.items() if count)
    return (
        f"{' and '.join(names)} withdrawn from {plural(found.videos, 'video', 'videos')}: {states}"
    )


def pause(
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Let everything that is paused go on, or only what --backbone names."
        ),
    ] = False,
    backbone: Annotated[
        list[str] | None, typer.Option("--backbone", help="Pause only this model. Repeatable.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; reelvec status shows it.")] = None,
) -> None:
    """Let no worker begin another video; those that are being worked on are finished. With
    --backbone only this model is paused.

    Example: reelvec pause --reason "moving the bucket"
    """
    from db.errors import UsageError
    from db.jobs import steering

    if resume and reason is not None:
        raise UsageError("--reason says why something is paused; it does not go with --resume")
    names = _backbones(backbone)
    why = f"--reason {shlex.quote(reason)}" if reason else ""
    record = _record(*(f"--backbone {name}" for name in names), why)
    with _one_transaction() as connection:
        if resume:
            resumed = steering.resume(connection, backbones=names, **record)
        elif names:
            steering.pause_backbones(
                connection, names, reason=reason or f"paused by {record['who']}", **record
            )
        else:
            steering.pause(connection, reason=reason, **record)
    if resume and names:
        say(f"resumed: {', '.join(resumed) or 'none of these was paused'}")
    elif resume:
        say("workers claim videos again" + (f", {', '.join(resumed)} too" if resumed else ""))
    elif names:
        say(f"paused: nothing is computed with {', '.join(names)} until reelvec pause --resume")
    else:
        say("paused: no worker takes a video until reelvec pause --resume")


def _backbones(named: list[str] | None) -> list[str]:
    """The models named, each once. Raises `UsageError` for one that nobody knows."""
    from workers.backbones import registry

    return sorted({registry.get(name).name for name in named or ()})


def _record(*given: str) -> dict[str, str]:
    """Who did it and with which options, for `status --log`."""
    return {"who": operator(), "what": " ".join(filter(None, given))}


@contextmanager
def _one_transaction(statement_seconds: float | None = None) -> Iterator[Connection]:
    from db import session

    with (
        open_database(statement_seconds=statement_seconds) as database,
        session.transaction(database) as connection,
    ):
        yield connection
