"""`reelvec retry | cancel | pause`: what an operator does to waiting and failed videos."""

from __future__ import annotations

from typing import Annotated

import typer

from producer import selectors
from producer.desk import database, say

#: Millions of rows are changed in one statement.
STATEMENT_SECONDS = 600.0

Json = Annotated[bool, typer.Option("--json", help="The count as JSON on stdout.")]


def retry(
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    as_json: Json = False,
) -> None:
    """Queue failed videos again, with fresh attempts. Without a selector: all of them. --since: when they failed."""
    from db import catalogue, session
    from workers import feeder
    from workers.app import app

    selection = selectors.parse(category, error, source, since)
    with database(statement_seconds=STATEMENT_SECONDS) as engine:
        with session.transaction(engine) as connection:
            selectors.refuse_unknown_categories(connection, category)
            count = catalogue.retry(connection, selection)
        _tell("retried", count, f"{count:,} failed videos are waiting again", as_json=as_json)
        feeder.feed(engine, app)


def cancel(
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    as_json: Json = False,
) -> None:
    """Take waiting videos off the queue; those in hand finish. enqueue brings them back. --since: when they were enqueued."""
    from db import catalogue, session

    selection = selectors.parse(category, error, source, since)
    with database(statement_seconds=STATEMENT_SECONDS) as engine, session.transaction(engine) as connection:
        selectors.refuse_unknown_categories(connection, category)
        count = catalogue.cancel(connection, selection)
    _tell("cancelled", count, f"{count:,} waiting videos are cancelled", as_json=as_json)


def _tell(name: str, count: int, sentence: str, *, as_json: bool) -> None:
    import json

    say(sentence)
    if as_json:
        typer.echo(json.dumps({name: count}))


def pause(
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    reason: Annotated[str | None, typer.Option(help="Shown by reelvec status.")] = None,
) -> None:
    """Stop claiming new videos, on all workers; those in hand finish."""
    from db import catalogue, session

    with database() as engine, session.transaction(engine) as connection:
        catalogue.pause(connection, paused=not resume, reason=None if resume else reason)
    say("workers claim videos again" if resume else "paused: no worker claims a video until reelvec pause --resume")
