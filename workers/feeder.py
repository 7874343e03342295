"""Publishing: the only place that sends messages. Pending videos become queued, then the bell rings for each.

The window keeps the broker small: 10^8 messages would take 100 GB of it, and a lost broker would take them along.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Queue
from kombu.exceptions import BatchPublishError, KombuError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from sqlalchemy import Engine

from db import ledger, liveness, lost_messages, places, session, settings
from db.errors import UnavailableError
from workers import contract
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

MIN_WINDOW = 200
MAX_WINDOW = 20_000
BATCH_MESSAGES = 500


def window(fleet_in_flight: int) -> int:
    """How many messages the broker may hold: twenty rounds of the whole fleet, within bounds.

    The window is filled every 10 s, and a round takes half a second at least: with four rounds one fast worker had
    nothing to do for half of the time.
    """
    return min(MAX_WINDOW, max(MIN_WINDOW, 20 * fleet_in_flight))


@contextmanager
def broker_errors() -> Iterator[None]:
    """A broker that does not answer, or refuses, is `UnavailableError` in this project's own words."""
    try:
        yield
    except (KombuError, RedisError, OSError) as error:
        cause = error.__cause__ if isinstance(error, BatchPublishError) else error
        refused, advice = _reason(cause)
        raise UnavailableError(f"the broker {refused}: {str(cause).rstrip('.')}. {advice}") from error


def _reason(cause: object) -> tuple[str, str]:
    """What the broker did, and what to do about it."""
    if isinstance(cause, NoPermissionError):
        return "refuses", f"Its user lacks a right: ACL SETUSER that_user {contract.BROKER_RIGHTS} gives what is needed"
    if isinstance(cause, AuthenticationError):
        return "does not answer", "Check user and password in REELVEC_BROKER_URL (or CELERY_BROKER_URL)"
    if isinstance(cause, ResponseError):
        return "refuses", "Check its memory and its role"
    return "does not answer", "Check CELERY_BROKER_URL and that it runs"


def depth(app: Any) -> int:
    """Messages waiting in the broker. Raises `UnavailableError`."""
    with broker_errors(), app.connection_for_write() as connection:
        return int(Queue(contract.QUEUE, channel=connection.default_channel).queue_declare().message_count)


def feed(engine: Engine, app: Any) -> int:
    """Fill the broker up to its window; returns how many videos were published.

    Rows are committed as queued before their message is sent: a crash in between loses a message, never a video.
    Raises `UnavailableError` if the broker does not answer; what may be unsent is pending again then.
    """
    chosen = settings.load(WorkerSettings)
    waiting = depth(app)
    with session.transaction(engine) as connection:
        room = window(liveness.fleet_in_flight(connection, stale_seconds=chosen.stale_seconds)) - waiting
        video_ids = ledger.feed(connection, room=room) if room > 0 else []
        video_ids += places.hand_out_probes(connection, beat_seconds=chosen.beat_seconds)
    if video_ids:
        try:
            with broker_errors():
                publish(app, video_ids)
        except UnavailableError:
            with session.transaction(engine) as connection:
                lost_messages.requeue(connection, video_ids)
            raise
    return len(video_ids)


def publish(app: Any, video_ids: list[int]) -> None:
    """One message per video, in pipelined batches (5,300/s instead of 2,500/s)."""
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=BATCH_MESSAGES):
        for video_id in video_ids:
            app.send_task(
                contract.TASK_NAME,
                args=contract.encode(video_id),
                queue=contract.QUEUE,
                producer=producer,
                retry=False,
                argsrepr="",
                kwargsrepr="",
            )


class LostMessages:
    """Finds queued rows whose message is gone, from what one process sees of the broker over time."""

    def __init__(self, *, look_seconds: float, queued_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._queued_seconds = queued_seconds
        self._empty_since: float | None = None

    def look(self, engine: Engine, waiting: int, *, now: float | None = None) -> int:
        """Called regularly with the broker's depth; gives lost rows back to pending and returns how many."""
        now = time.monotonic() if now is None else now
        if waiting > 0:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        with session.transaction(engine) as connection:
            if self._empty_since is not None and now - self._empty_since >= self._look_seconds:
                lost = lost_messages.requeue_all(connection, older_than_seconds=self._look_seconds)
            else:
                lost = lost_messages.requeue_overtaken(connection, older_than_seconds=self._queued_seconds)
        if lost:
            log.warning("%d queued videos had lost their message: back to pending", lost)
        return lost
