"""Whether this worker still takes messages, judged apart from the transport.

Slots free, messages waiting, none taken for a while: the consumer is made to connect again; the
same once more: the process ends. A broker that is away, an empty queue, a full house or a drain is
no reason for either.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from db.errors import UnavailableError
from db.jobs import stages
from workers import contract

log = logging.getLogger(__name__)


class Consumption:
    """What this process takes, counted where tasks begin and end, not where the transport thinks
    they do.

    It takes from everybody's queue and from those of the encoders that it can make.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._consumer: Any = None
        self.taken = 0
        #: Slots for videos alone; None: every slot is for anything.
        self.video_slots: int | None = None
        self._busy: Counter[str] = Counter()
        self._chosen: frozenset[str] = frozenset()

    def ready(self, consumer: Any) -> None:
        """Celery's consumer, which outlives its connections."""
        self._consumer = consumer
        if self._chosen:
            self.listen(self._chosen)

    @property
    def queues(self) -> list[str]:
        """What this process consumes, everybody's queue first; only that one before it is ready."""
        if self._consumer is None:
            return [contract.QUEUE]
        return sorted(self._consumer.app.amqp.queues.consume_from)

    def listen(self, queues: Collection[str]) -> None:
        """Consume these beside everybody's queue from now on, and no others of ours."""
        self._chosen = frozenset(queues)
        if self._consumer is not None and self._consumer.hub is not None:
            self._consumer.hub.call_soon(self._listen)

    def began(self, queue: str = contract.QUEUE) -> None:
        """A video was taken from this queue."""
        with self._lock:
            self.taken += 1
            self._busy[contract.stage_of(queue)] += 1

    def ended(self, queue: str = contract.QUEUE) -> None:
        with self._lock:
            self._busy[contract.stage_of(queue)] -= 1

    def open_queues(self) -> list[str]:
        """Those of `queues` for which a slot is free. A worker that never became ready has all of
        its slots.
        """
        if self._consumer is None:
            return self.queues
        if self._busy.total() >= self._consumer.pool.num_processes:
            return []
        if self.video_slots is None or self._busy[stages.VIDEO] < self.video_slots:
            return self.queues
        return [queue for queue in self.queues if contract.stage_of(queue) == stages.FRAMES]

    def reconnect(self) -> None:
        """Raise a lost connection in Celery's event loop, which then makes connection, channel and
        consumer anew.
        """
        if self._consumer is not None and self._consumer.hub is not None:
            self._consumer.hub.call_soon(_lose_connection)

    def _listen(self) -> None:
        """In Celery's event loop. Without a connection it is done with the next beat; -Q may have
        chosen otherwise.
        """
        listed = self._consumer.app.amqp.queues.consume_from
        if self._consumer.task_consumer is None or contract.QUEUE not in listed:
            return
        rare = {name for name in listed if name.startswith(contract.queue_of(""))}
        for name in sorted(self._chosen - rare):
            self._consumer.add_task_queue(name)
        for name in sorted(rare - self._chosen):
            del listed[name]
            self._consumer.task_consumer.cancel_by_queue(name)


def _lose_connection() -> None:
    raise ConnectionResetError("nothing was taken though messages wait")


#: One per process, like Celery's signals that feed it.
consumption = Consumption()


class Watch:
    """Looks at a `Consumption` again and again; `waiting` asks the broker on a connection of its
    own.

    `waiting` returns how many messages there are and may raise `UnavailableError`; `end` ends the
    process.
    """

    def __init__(
        self,
        consumption: Consumption,
        *,
        idle_seconds: float,
        waiting: Callable[[], int],
        end: Callable[[str], None],
    ) -> None:
        self._consumption = consumption
        self._idle_seconds = idle_seconds
        self._waiting = waiting
        self._end = end
        self._taken = 0
        self._looked = self._since = -math.inf
        self._reconnected = False

    def look(self, now: float | None = None) -> None:
        """One look; `now` is monotonic, in seconds."""
        now = time.monotonic() if now is None else now
        slept = (
            now - self._looked > self._idle_seconds
        )  # who was stopped itself knows nothing of the time in between
        self._looked = now
        if slept or not self._is_idle():
            self._taken, self._since, self._reconnected = self._consumption.taken, now, False
            return
        idle_seconds = now - self._since
        if idle_seconds >= 2 * self._idle_seconds:
            self._end(f"messages wait, slots are free, and none was taken for {idle_seconds:.0f} s")
        elif idle_seconds >= self._idle_seconds and not self._reconnected:
            log.warning(
                "messages wait, but none was taken for %.0f s: connecting again", idle_seconds
            )
            self._consumption.reconnect()
            self._reconnected = True

    def _is_idle(self) -> bool:
        """Nothing taken since the last look, though it could have been. The broker is asked last:
        mostly not at all.
        """
        if self._consumption.taken != self._taken or not self._consumption.open_queues():
            return False
        try:
            return self._waiting() > 0
        except UnavailableError:  # the feeder says so
            return False
