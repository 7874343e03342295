"""The way from the broker's list to Celery: kombu's Redis transport without its bookkeeping, and
deaf to forged messages.

kombu remembers what it has popped in the broker (`unacked`) until it is acknowledged. Here nothing
needs that: what a dead worker held is in Postgres. It cost three round trips a message instead of
one, and each of its writes could fail: an acknowledgement that failed kept its slot for ever (a
busy worker took nothing any more after the broker was away), a broker out of memory ended the
worker, a lost connection had every running video delivered again, a killed worker's messages stayed
for an hour. A message that is popped here is gone from the broker; `db/jobs/lost_messages.py` finds
the video whose message never reached a claim.
"""

from __future__ import annotations

import logging
import time
from queue import Empty
from typing import Any

from celery.app import amqp
from celery.worker import state
from kombu import connection
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import RedisError

from db.jobs import stages
from workers import contract
from workers.contract import MalformedMessageError
from workers.delivery import messages

log = logging.getLogger(__name__)

#: A broker that answers, but refuses (read-only, no permission), is asked again after this long.
REFUSED_SECONDS = 1.0
#: So long frames alone are waited for at most: by then there may be a slot for a video.
FRAMES_SECONDS = 0.1
#: Between attempts to connect, in seconds. kombu's own grow from 2 to 30: too long for "back to
#: work within 30 s".
PAUSES = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}


class Sparing:
    """At most one warning per second, which says how many were left out: garbage may come by
    thousands.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def warning(self, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like it before)" if self._left_out else ""
        log.warning(text + "%s", *arguments, more)
        self._next, self._left_out = now + 1.0, 0


_sparing = Sparing()


class QoS(virtual.QoS):
    """Counts the slots that are taken. To acknowledge only frees one: it cannot fail."""

    #: A channel closes when its connection is lost: what runs goes on, and must not be delivered
    #: again.
    restore_at_shutdown = False

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Free the slot, whether or not the message can be put back into the queue."""
        try:
            if self.channel.closed:
                raise ConnectionError("its connection was lost while the video ran")
            super().reject(delivery_tag, requeue=requeue)
        except (RedisError, OSError) as error:
            log.warning("a message could not be put back, the feeder will send it again: %s", error)
        finally:
            self.ack(delivery_tag)


def videos_in_hand() -> int:
    """Videos that were taken as such and are not through, whichever connection brought them."""
    while True:
        try:
            return sum(
                contract.stage_of(request.delivery_info["routing_key"]) == stages.VIDEO
                for request in state.reserved_requests
            )
        except RuntimeError:  # another thread ended one meanwhile
            continue


class RareFirst(round_robin_cycle):
    """Frames that are sampled already come first, as they take no time here. What few can make they
    take before what everybody can; the queues of rare encoders take turns.
    """

    def consume(self, n: int) -> list[str]:
        return sorted(self.items[:n], key=self._rank)

    @staticmethod
    def _rank(queue: str) -> tuple[bool, bool]:
        is_video = contract.stage_of(queue) == stages.VIDEO
        return is_video, queue in (contract.QUEUE, contract.FRAMES_QUEUE)


class FramesAlone(RareFirst):
    """While all slots for videos are taken."""

    def consume(self, n: int) -> list[str]:
        return [queue for queue in super().consume(n) if contract.stage_of(queue) == stages.FRAMES]


class Channel(redis.Channel):
    """Delivers messages that name a video, made anew from its id; drops all others."""

    ack_emulation = False
    #: How many videos are worked on at once, beside frames; None: as many as there are slots.
    video_slots: int | None = None
    from_transport_options = (*redis.Channel.from_transport_options, "video_slots")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.QoS = QoS  # kombu has set its own here
        self._queue_cycle = RareFirst()

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for the next message. While no slot is free for a video none is asked for; without
        queues of frames that is nothing at all, until a slot is free.
        """
        full = self.video_slots is not None and videos_in_hand() >= self.video_slots
        cycle = FramesAlone if full else RareFirst
        self._queue_cycle = cycle(self._queue_cycle.items)
        super()._brpop_start(FRAMES_SECONDS if full else timeout)

    def _brpop_read(self, **options: Any) -> bool:
        """Read BRPOP's answer. Raises `Empty` where there was no message of ours in it."""
        try:
            popped = self._popped(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not popped:
            raise Empty
        key, raw = popped
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        try:
            video_id = messages.read(raw)
        except MalformedMessageError as error:
            _sparing.warning("dropped a message that is not ours: %s: %r", error, raw[:80])
            raise Empty from None
        self.connection._deliver(
            messages.write(video_id, queue=queue, tag=self._next_delivery_tag()), queue
        )
        return True

    def _popped(self, **options: Any) -> tuple[bytes, bytes] | None:
        line = self.client.connection
        try:
            popped: tuple[bytes, bytes] | None = self.client.parse_response(
                line, "BRPOP", **options
            )
        except self.connection_errors:
            line.disconnect()
            raise
        except self.ResponseError as error:  # it would end the worker
            line.disconnect()
            _sparing.warning("the broker refuses to give messages: %r", str(error))
            time.sleep(REFUSED_SECONDS)
            return None
        return popped

    def _queue_bind(self, *arguments: Any) -> None:
        """Our messages name their list; a broker that is full or read-only need not note the
        binding.
        """
        try:
            super()._queue_bind(*arguments)
        except self.ResponseError as error:
            _sparing.warning("the broker refuses to let Celery register the queue: %r", str(error))

    def close(self) -> None:
        """kombu's, but a last answer that cannot be read does not keep it from closing."""
        if self._in_poll:
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors) as error:
                log.debug("closing: %r", error)
        super().close()


class Transport(redis.Transport):
    """See the module."""

    Channel = Channel


class Connection(connection.Connection):
    """Always our transport, whatever the address.

    Celery's setting `broker_transport` would do for `redis://` alone: kombu goes by the address
    again for `redis+socket://` and at a failover, and encrypts `rediss://` only where the transport
    has that very name.
    """

    def get_transport_cls(self) -> type[Transport]:
        return Transport

    def _ensure_connection(self, *arguments: Any, **named: Any) -> Any:
        return super()._ensure_connection(*arguments, **{**PAUSES, **named})

    def Pool(self, limit: int | None = None, **named: Any) -> connection.ConnectionPool:  # noqa: N802
        return ConnectionPool(self, limit, **named)


class PooledConnection(Connection, connection.PooledConnection):
    """A producer's."""


class ConnectionPool(connection.ConnectionPool):
    """Of our connections; kombu's makes its own."""

    def new(self) -> PooledConnection:
        return PooledConnection(self, **dict(self.connection._info(resolve=False)))


class AMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = BrokerConnection = Connection
