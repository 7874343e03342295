"""Publishing: the only place that sends messages. Pending videos become queued, then the bell rings
for each.

The window keeps the broker small: 10^8 messages would take 100 GB of it, and a lost broker would
take them along.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kombu import Queue
from kombu.exceptions import BatchPublishError, KombuError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from db import session, settings
from db.errors import UnavailableError
from db.jobs import abilities, feeding, lost_messages, places, stages
from db.jobs.abilities import Abilities
from workers import contract
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

MIN_WINDOW = 200
MAX_WINDOW = 20_000
BATCH_MESSAGES = 500


def window(fleet_in_flight: int) -> int:
    """How many messages the broker may hold: twenty rounds of the whole fleet, within bounds.

    The window is filled every 10 s, and a round takes half a second at least: with four rounds one
    fast worker had nothing to do for half of the time.
    """
    return min(MAX_WINDOW, max(MIN_WINDOW, 20 * fleet_in_flight))


@contextmanager
def broker_errors() -> Iterator[None]:
    """A broker that does not answer, or refuses, is `UnavailableError` in this project's own
    words.
    """
    try:
        yield
    except (KombuError, RedisError, OSError) as error:
        cause = error.__cause__ if isinstance(error, BatchPublishError) else error
        refused, advice = _reason(cause)
        raise UnavailableError(
            f"the broker {refused}: {str(cause).rstrip('.')}. {advice}"
        ) from error


def _reason(cause: object) -> tuple[str, str]:
    """What the broker did, and what to do about it."""
    if isinstance(cause, NoPermissionError):
        return (
            "refuses",
            f"Its user lacks a right: ACL SETUSER that_user {contract.BROKER_RIGHTS} gives what is "
            "needed",
        )
    if isinstance(cause, AuthenticationError):
        return (
            "does not answer",
            "Check user and password in REELVEC_BROKER_URL (or CELERY_BROKER_URL)",
        )
    if isinstance(cause, ResponseError):
        return "refuses", "Check its memory and its role"
    return "does not answer", "Check REELVEC_BROKER_URL (or CELERY_BROKER_URL) and that it runs"


def depths(app: Any, queues: Iterable[str]) -> dict[str, int]:
    """Messages waiting in each of these queues. Raises `UnavailableError`."""
    with broker_errors(), app.connection_for_write() as connection:
        channel = connection.default_channel
        return {
            name: int(Queue(name, channel=channel).queue_declare().message_count) for name in queues
        }


def depth(app: Any, queues: Iterable[str] = (contract.QUEUE,)) -> int:
    """Messages waiting in all of these queues together. Raises `UnavailableError`."""
    return sum(depths(app, queues).values())


def feed(database: Database, app: Any) -> int:
    """Fill the broker's queues up to their windows; returns how many videos were published.

    Rows are committed as queued before their message is sent: a crash in between loses a message,
    never a video. Raises `UnavailableError` if the broker does not answer; what may be unsent is
    pending again then.
    """
    chosen = settings.load(WorkerSettings)
    with session.transaction(database) as connection:
        fleet = abilities.read(connection, stale_seconds=chosen.stale_seconds)
        abandoned = lost_messages.requeue_abandoned(
            connection, [makers.encoder_id for makers in fleet.lacking()]
        )
    _purge(
        app,
        [
            contract.queue_of(makers.encoder, stage=stage)
            for makers in fleet.lacking()
            if makers.encoder_id in abandoned
            for stage in (stages.VIDEO, stages.FRAMES)
        ],
    )
    windows = _windows(fleet)
    waiting = depths(app, [name for name, _ in windows.values()])
    with session.transaction(database) as connection:
        rooms = _rooms(connection, fleet, windows, waiting)
        fed = feeding.feed(connection, fleet, rooms=rooms)
        probes = places.hand_out_probes(
            connection,
            beat_seconds=chosen.beat_seconds,
            makeable=fleet.makeable if fleet.workers else None,
        )
        for queue, video_ids in feeding.send_by(connection, fleet, probes).items():
            fed[queue] = fed.get(queue, []) + video_ids
    try:
        with broker_errors():
            for queue, video_ids in fed.items():
                publish(app, video_ids, queue=windows[queue][0])
    except UnavailableError:
        with session.transaction(database) as connection:
            lost_messages.requeue(
                connection, [video_id for video_ids in fed.values() for video_id in video_ids]
            )
        raise
    return sum(map(len, fed.values()))


def _windows(fleet: Abilities) -> dict[stages.Queue, tuple[str, int]]:
    """Every queue with its name and how many messages it may hold."""
    windows = {
        stages.COMMON: (contract.QUEUE, window(fleet.in_flight + fleet.sampling)),
        stages.COMMON_FRAMES: (contract.FRAMES_QUEUE, window(fleet.pack_slots)),
    }
    for makers in fleet.rare():
        for stage, slots in (
            (stages.VIDEO, makers.in_flight + fleet.sampling),
            (stages.FRAMES, makers.pack_slots),
        ):
            name = contract.queue_of(makers.encoder, stage=stage)
            windows[stages.Queue(makers.encoder_id, stage)] = (name, window(slots))
    return windows


def _rooms(
    connection: Connection,
    fleet: Abilities,
    windows: Mapping[stages.Queue, tuple[str, int]],
    waiting: Mapping[str, int],
) -> dict[stages.Queue, int]:
    """How many messages each queue may be given now.

    Where sampler nodes take videos, these and the packs that wait for a GPU are bounded together:
    no more is sampled ahead than the frame store should hold, and the GPUs have enough to do.
    """
    rooms = {queue: size - waiting[name] for queue, (name, size) in windows.items()}
    if fleet.sampling:
        ahead = window(fleet.pack_slots) - feeding.outstanding(connection)
        for queue, (name, _) in windows.items():
            if queue.stage == stages.VIDEO:
                rooms[queue] = min(rooms[queue], ahead - waiting[name])
    return {queue: room for queue, room in rooms.items() if room > 0}


def _purge(app: Any, queues: list[str]) -> None:
    """Nobody can make what these ring for, and their videos wait again."""
    if queues:
        with broker_errors(), app.connection_for_write() as connection:
            for name in queues:
                Queue(name, channel=connection.default_channel).purge()


def publish(app: Any, video_ids: list[int], *, queue: str = contract.QUEUE) -> None:
    """One message per video, in pipelined batches (5,300/s instead of 2,500/s)."""
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=BATCH_MESSAGES):
        for video_id in video_ids:
            app.send_task(
                contract.TASK_NAME,
                args=contract.encode(video_id),
                queue=queue,
                producer=producer,
                retry=False,
                argsrepr="",
                kwargsrepr="",
            )


class LostMessages:
    """Finds queued rows whose message is gone, from what one process sees of the broker over time,
    queue by queue.
    """

    def __init__(self, *, look_seconds: float, queued_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._queued_seconds = queued_seconds
        self._empty_since: dict[stages.Queue, float] = {}

    def look_at_all(self, database: Database, app: Any) -> int:
        """Called regularly; gives lost rows back to pending and returns how many. Raises
        `UnavailableError`.
        """
        with session.transaction(database) as connection:
            found = lost_messages.queues(connection)
        names = {
            queue: contract.queue_of(encoder, stage=queue.stage)
            for queue, encoder in {stages.COMMON: None, **found}.items()
        }
        waiting = depths(app, names.values())
        self._empty_since = {
            queue: since for queue, since in self._empty_since.items() if queue in names
        }
        return sum(self.look(database, waiting[name], queue=queue) for queue, name in names.items())

    def look(
        self,
        database: Database,
        waiting: int,
        *,
        queue: stages.Queue = stages.COMMON,
        now: float | None = None,
    ) -> int:
        """The same for one queue, of a rare encoder or everybody's, with its depth."""
        now = time.monotonic() if now is None else now
        if waiting > 0:
            self._empty_since.pop(queue, None)
        else:
            self._empty_since.setdefault(queue, now)
        with session.transaction(database) as connection:
            if now - self._empty_since.get(queue, now) >= self._look_seconds:
                lost = lost_messages.requeue_all(
                    connection, queue=queue, older_than_seconds=self._look_seconds
                )
            else:
                lost = lost_messages.requeue_overtaken(
                    connection, queue=queue, older_than_seconds=self._queued_seconds
                )
        if lost:
            log.warning("%d queued videos had lost their message: back to pending", lost)
        return lost
