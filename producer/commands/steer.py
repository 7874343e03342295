"""`reelvec retry | cancel | pause`: what an operator does to waiting and failed videos."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.desk import database, say

Category = Annotated[str | None, typer.Option("--category", help="Only videos of this category.")]


def retry(
    category: Category = None,
    error: Annotated[str | None, typer.Option("--error", help="Only videos that failed with this code.")] = None,
) -> None:
    """Queue failed videos again, with fresh attempts."""
    from db import catalogue, session
    from producer.wait import stale_seconds
    from workers import feeder
    from workers.app import app

    with database() as engine:
        with session.transaction(engine) as connection:
            count = catalogue.retry(connection, category=category, code=error)
        feeder.feed(engine, app, stale_seconds=stale_seconds())
    say(f"{count:,} failed videos are waiting again")


def cancel(category: Category = None) -> None:
    """Take waiting videos off the queue; those in hand finish. enqueue brings them back."""
    from db import catalogue, session

    with database() as engine, session.transaction(engine) as connection:
        count = catalogue.cancel(connection, category=category)
    say(f"{count:,} waiting videos are cancelled")


def pause(
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    reason: Annotated[str | None, typer.Option(help="Shown by reelvec status.")] = None,
) -> None:
    """Stop claiming new videos, on all workers; those in hand finish."""
    from db import catalogue, session

    with database() as engine, session.transaction(engine) as connection:
        catalogue.pause(connection, paused=not resume, reason=None if resume else reason)
    say("workers claim videos again" if resume else "paused: no worker claims a video until reelvec pause --resume")
