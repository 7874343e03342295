"""Queued videos whose message the broker has lost."""

from __future__ import annotations

from sqlalchemy import Connection, text


def requeue_all(connection: Connection, *, older_than_seconds: float) -> int:
    """The broker is empty, now and that long ago: what was queued before has lost its message. Returns how many."""
    return connection.execute(
        text(
            "UPDATE reelvec.jobs SET state = 'pending'"
            " WHERE state = 'queued' AND queued_at < now() - make_interval(secs => :seconds)"
        ),
        {"seconds": older_than_seconds},
    ).rowcount


def requeue_overtaken(connection: Connection, *, older_than_seconds: float) -> int:
    """A message older than one that was claimed already should have come first: it is lost. Returns how many."""
    return connection.execute(
        text(
            "UPDATE reelvec.jobs SET state = 'pending' WHERE state = 'queued'"
            " AND queued_at < now() - make_interval(secs => :seconds)"
            " AND queued_at < (SELECT max(queued_at) FROM reelvec.jobs WHERE state = 'running')"
        ),
        {"seconds": older_than_seconds},
    ).rowcount
