"""Queued videos whose message the broker has lost."""

from __future__ import annotations

from sqlalchemy import Connection, text

from db.jobs.stages import COMMON, Queue


def requeue(connection: Connection, video_ids: list[int]) -> None:
    """Videos whose messages may not have been sent. One that was sent after all can be claimed
    nevertheless.
    """
    connection.execute(
        text(
            "UPDATE reelvec.jobs SET state = 'pending' WHERE state = 'queued' AND video_id = "
            "ANY(:video_ids)"
        ),
        {"video_ids": video_ids},
    )


def requeue_abandoned(connection: Connection, encoder_ids: list[int]) -> set[int]:
    """Nobody lives who can make these encoders: what is in their queues waits again, to be sent by
    another if it can be.

    Returns the encoders of which anything was.
    """
    if not encoder_ids:
        return set()
    rows = connection.execute(
        text(
            "WITH abandoned AS (SELECT video_id FROM reelvec.jobs WHERE state = 'queued' AND queue "
            "= ANY(:encoder_ids) ORDER BY video_id FOR UPDATE SKIP LOCKED) UPDATE reelvec.jobs j "
            "SET state = 'pending' FROM abandoned a WHERE j.video_id = a.video_id RETURNING queue"
        ),
        {"encoder_ids": encoder_ids},
    )
    return {int(row.queue) for row in rows}


def queues(connection: Connection) -> dict[Queue, str | None]:
    """Queues in which videos are, with the name of their encoder, if they are one's."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT j.queue, j.stage, e.encoder FROM reelvec.jobs j LEFT JOIN "
            "reelvec.encoders e ON e.encoder_id = j.queue WHERE j.state = 'queued'"
        )
    )
    return {Queue(queue, stage): encoder for queue, stage, encoder in rows}


def requeue_all(connection: Connection, *, queue: Queue = COMMON, older_than_seconds: float) -> int:
    """The queue is empty, now and that long ago: what was queued before has lost its message.
    Returns how many.
    """
    return _requeue(connection, "", queue, older_than_seconds)


def requeue_overtaken(
    connection: Connection, *, queue: Queue = COMMON, older_than_seconds: float
) -> int:
    """A message older than one that was claimed already should have come first: it is lost. Returns
    how many.
    """
    overtaken = (
        " AND queued_at < (SELECT max(queued_at) FROM reelvec.jobs"
        " WHERE state = 'running' AND queue IS NOT DISTINCT FROM :queue AND stage = :stage)"
    )
    return _requeue(connection, overtaken, queue, older_than_seconds)


def _requeue(
    connection: Connection, condition: str, queue: Queue, older_than_seconds: float
) -> int:
    """A row that somebody has locked is being taken or changed: it is looked at again the next
    time.
    """
    statement = f"""
WITH lost AS (
  SELECT video_id FROM reelvec.jobs
  WHERE state = 'queued' AND queue IS NOT DISTINCT FROM :queue AND stage = :stage
    AND queued_at < now() - make_interval(secs => :seconds){condition}
  ORDER BY video_id FOR UPDATE SKIP LOCKED
)
UPDATE reelvec.jobs j SET state = 'pending' FROM lost WHERE j.video_id = lost.video_id
"""  # noqa: S608
    facts = {"seconds": older_than_seconds, "queue": queue.encoder_id, "stage": queue.stage}
    return connection.execute(text(statement), facts).rowcount
