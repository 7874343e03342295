"""What a worker does besides its work: beat, look after the ledger and the frame store, and watch
whether it takes messages and computes rightly.

A thread for each, because a broker that does not answer must not cost the heartbeat, nor a database
the watch on the broker; and the heartbeat has a connection of its own, because neither may task
threads that hold all others.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine as Database

from db import session
from db.errors import ReelvecError, RefusedConfigurationError, UnavailableError
from db.exit_codes import ExitCode
from db.frames import ended
from db.jobs import abilities, liveness, stages
from db.progress import shared_census
from workers import contract, feeder
from workers.delivery import breaker, consuming
from workers.ending.at_once import end_process
from workers.frames import sweeping
from workers.frames.store import FrameStore
from workers.runtime import Runtime

log = logging.getLogger(__name__)


#: A round that is wanted early comes this part of a beat later.
EARLY_BEATS = 0.1
#: Packs of videos that have ended are looked for so rarely: only a crash leaves any.
ENDED_BEATS = 24


@dataclass(frozen=True)
class Round:
    """What one thread does every beat, and soon when `early` is set.

    After a round that failed the next one comes `retry_beats` later: others must soon see that we
    live.
    """

    step: Callable[[], None]
    early: threading.Event
    retry_beats: float = 1.0


class Heartbeat:
    """The threads of one worker; `stop` ends them and takes the worker off the list.

    `app` is the Celery app by whose broker messages are sent and counted.
    """

    def __init__(self, runtime: Runtime, app: Any) -> None:
        self._runtime = runtime
        self._app = app
        self._stopping = threading.Event()
        self._rounds = [
            Round(self.beat, threading.Event(), retry_beats=0.2),
            Round(self.look_after_ledger(), runtime.look_now),
            Round(self.watch_consumption(), threading.Event()),
            Round(self.watch_canary, threading.Event()),
        ]
        if runtime.frame_store is not None:
            self._rounds.append(Round(self.sweeping(runtime.frame_store), threading.Event()))
        runtime.heart = tuple(
            threading.Thread(
                target=self._repeat, args=(turn,), name=turn.step.__name__, daemon=True
            )
            for turn in self._rounds
        )

    def start(self) -> None:
        """The first beat may take as long as any statement: a server that is busy now is no reason
        not to start. Raises `UnavailableError`.
        """
        self._beat(self._runtime.database)
        for thread in self._runtime.heart:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        deadline = time.monotonic() + 5.0  # of all: each may be waiting for a broker that is away
        for turn in self._rounds:
            turn.early.set()
        for thread in self._runtime.heart:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        try:
            with session.transaction(self._runtime.beating) as connection:
                liveness.leave(connection, self._runtime.worker_id)
        except UnavailableError as error:
            log.warning("could not remove this worker from the list of workers: %s", error)

    def beat(self) -> None:
        self._beat(self._runtime.beating)

    def _beat(self, database: Database) -> None:
        runtime = self._runtime
        stuck = runtime.longest_active_seconds()
        if stuck > runtime.settings.stuck_seconds:
            end_process(ExitCode.STUCK, f"a video has been in hand for {stuck:.0f} s")
        runtime.models.look()
        with session.transaction(database) as connection:
            liveness.beat(
                connection,
                runtime.worker,
                draining=runtime.draining.is_set(),
                gap_seconds=runtime.settings.gap_seconds,
            )
            makes = abilities.of_worker(connection, runtime.models.ability)
        runtime.beaten_at = time.monotonic()
        consuming.consumption.listen(self._queues(makes.values()))

    def _queues(self, encoders: Iterable[str]) -> list[str]:
        """What is consumed beside everybody's queue: videos that only some can make, and frames."""
        rare = list(encoders)
        frames = [None, *rare] if self._runtime.settings.pack_slots else []
        return [
            *(contract.queue_of(encoder) for encoder in rare),
            *(contract.queue_of(encoder, stage=stages.FRAMES) for encoder in frames),
        ]

    def look_after_ledger(self) -> Callable[[], None]:
        """One round: videos of dead workers back to pending, lost messages found, the broker filled
        up, counts kept fresh.
        """
        runtime, app = self._runtime, self._app
        chosen = runtime.settings
        lost = feeder.LostMessages(
            look_seconds=chosen.broker_look_seconds, queued_seconds=chosen.queued_seconds
        )

        def keep() -> None:
            with session.transaction(runtime.database) as connection:
                silent = session.end_silent(connection)
                reaped = liveness.reap(
                    connection,
                    runtime.worker_id,
                    stale_seconds=chosen.stale_seconds,
                    gap_seconds=chosen.gap_seconds,
                )
                unheld = liveness.give_back_unheld(
                    connection,
                    runtime.worker_id,
                    in_hand=runtime.in_hand(),
                    older_than_seconds=chosen.stale_seconds,
                )
            if silent:
                log.warning("ended %d sessions that waited for clients that had given up", silent)
            if reaped:
                log.warning("%d videos of dead workers are pending again", len(reaped))
            if unheld:
                log.warning(
                    "%d videos that this worker was said to hold, but does not, are pending again",
                    len(unheld),
                )
            breaker.keep(runtime)
            lost.look_at_all(runtime.database, app)
            if not runtime.draining.is_set():
                feeder.feed(runtime.database, app)
            with session.transaction(runtime.database) as connection:
                shared_census.refresh(connection)

        return keep

    def watch_consumption(self) -> Callable[[], None]:
        """One round: whether this process still takes messages
        (`workers/delivery/consuming.py`).
        """
        watch = consuming.Watch(
            consuming.consumption,
            idle_seconds=self._runtime.settings.idle_seconds,
            waiting=lambda: feeder.depth(self._app, consuming.consumption.open_queues()),
            end=lambda reason: end_process(ExitCode.STUCK, reason),
        )

        def look() -> None:
            if not self._runtime.draining.is_set():
                watch.look()

        return look

    def sweeping(self, store: FrameStore) -> Callable[[], None]:
        """One round: objects of the frame store that no row names any more are deleted; now and
        then packs that nothing waits for are forgotten first.
        """
        runtime = self._runtime
        rounds = itertools.count()

        def sweep() -> None:
            if runtime.draining.is_set():
                return
            if next(rounds) % ENDED_BEATS == 0:
                with session.transaction(runtime.database) as connection:
                    ended.drop(connection)
            sweeping.sweep(runtime.database, store)

        return sweep

    def watch_canary(self) -> None:
        """One round: whether this worker still makes what it should (`workers/canary`)."""
        if not self._runtime.draining.is_set():
            try:
                self._runtime.models.check()
            except RefusedConfigurationError as error:
                self._runtime.refuse(error)

    def _repeat(self, turn: Round) -> None:
        beats = 1.0
        while True:
            beat_seconds = self._runtime.settings.beat_seconds
            if turn.early.wait(beats * beat_seconds):
                # messages of a place that was closed just now are dropped first: then there is room
                # for others
                self._stopping.wait(EARLY_BEATS * beat_seconds)
            turn.early.clear()
            if self._stopping.is_set():
                return
            beats = turn.retry_beats
            try:
                turn.step()
            except ReelvecError as error:
                log.warning("%s", error)
            except Exception:
                # the thread must outlive whatever one round meets
                log.exception("unexpected in %s", turn.step.__name__)
            else:
                beats = 1.0
