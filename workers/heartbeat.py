"""Three things a worker does besides its work: beat, look after the ledger, and watch itself.

Two threads, because a broker that does not answer must not cost the heartbeat.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from db import census, ledger, session
from db.errors import UnavailableError
from db.exit_codes import ExitCode

if TYPE_CHECKING:
    from workers.launch import Runtime

log = logging.getLogger(__name__)


class Heartbeat:
    """The two threads of one worker; `stop` ends them and takes the worker off the list."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(step,), name=step.__name__, daemon=True)
            for step in (self.beat, self.look_after_ledger())
        ]

    def start(self) -> None:
        self.beat()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5.0)
        try:
            with session.transaction(self._runtime.engine) as connection:
                ledger.leave(connection, self._runtime.worker_id)
        except UnavailableError as error:
            log.warning("could not say goodbye: %s", error)

    def beat(self) -> None:
        runtime = self._runtime
        stuck = runtime.longest_active_seconds()
        if stuck > runtime.settings.stuck_seconds:
            end_process(ExitCode.STUCK, f"a video has been in hand for {stuck:.0f} s")
        with session.transaction(runtime.engine) as connection:
            ledger.beat(
                connection,
                runtime.worker,
                draining=runtime.draining.is_set(),
                stale_seconds=runtime.settings.stale_seconds,
            )

    def look_after_ledger(self) -> Callable[[], None]:
        """One round: videos of dead workers back to pending, lost messages found, the broker filled up, counts kept fresh."""
        from workers import breaker, feeder
        from workers.app import app

        runtime = self._runtime
        chosen = runtime.settings
        lost = feeder.LostMessages(look_seconds=chosen.broker_look_seconds, queued_seconds=chosen.queued_seconds)

        def keep() -> None:
            with session.transaction(runtime.engine) as connection:
                reaped = ledger.reap(connection, runtime.worker_id, stale_seconds=chosen.stale_seconds)
                unheld = ledger.give_back_unheld(
                    connection, runtime.worker_id, in_hand=runtime.in_hand(), older_than_seconds=chosen.stale_seconds
                )
            if reaped:
                log.warning("%d videos of dead workers are pending again", len(reaped))
            if unheld:
                log.warning("%d videos in our name that we do not hold are pending again", len(unheld))
            breaker.keep(runtime)
            lost.look(runtime.engine, feeder.depth(app))
            if not runtime.draining.is_set():
                feeder.feed(runtime.engine, app)
            with session.transaction(runtime.engine) as connection:
                census.refresh(connection)

        return keep

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._stopping.wait(self._runtime.settings.beat_seconds):
            try:
                step()
            except UnavailableError as error:
                log.warning("%s", error)
            except Exception:
                # the thread must outlive whatever one round meets
                log.exception("unexpected in %s", step.__name__)


def start(runtime: Runtime) -> Heartbeat:
    heartbeat = Heartbeat(runtime)
    heartbeat.start()
    return heartbeat


def end_process(code: int, reason: str) -> None:
    """Leave at once, saying where every thread stands: redelivery and the reaper take over."""
    log.error("ending this process: %s", reason)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(code)
