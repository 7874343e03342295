"""Queued videos whose message the broker has lost."""

from __future__ import annotations

from sqlalchemy import Connection, text


def requeue(connection: Connection, video_ids: list[int]) -> None:
    """Videos whose messages may not have been sent. One that was sent after all can be claimed nevertheless."""
    connection.execute(
        text("UPDATE reelvec.jobs SET state = 'pending' WHERE state = 'queued' AND video_id = ANY(:video_ids)"),
        {"video_ids": video_ids},
    )


def requeue_all(connection: Connection, *, older_than_seconds: float) -> int:
    """The broker is empty, now and that long ago: what was queued before has lost its message. Returns how many."""
    return _requeue(connection, "", older_than_seconds)


def requeue_overtaken(connection: Connection, *, older_than_seconds: float) -> int:
    """A message older than one that was claimed already should have come first: it is lost. Returns how many."""
    overtaken = " AND queued_at < (SELECT max(queued_at) FROM reelvec.jobs WHERE state = 'running')"
    return _requeue(connection, overtaken, older_than_seconds)


def _requeue(connection: Connection, condition: str, older_than_seconds: float) -> int:
    """A row that somebody has locked is being taken or changed: it is looked at again the next time."""
    statement = f"""
WITH lost AS (
  SELECT video_id FROM reelvec.jobs
  WHERE state = 'queued' AND queued_at < now() - make_interval(secs => :seconds){condition}
  ORDER BY video_id FOR UPDATE SKIP LOCKED
)
UPDATE reelvec.jobs j SET state = 'pending' FROM lost WHERE j.video_id = lost.video_id
"""  # noqa: S608
    return connection.execute(text(statement), {"seconds": older_than_seconds}).rowcount
