"""What one worker process holds from the moment it is ready, and what it has in hand.

It knows nothing of who makes it (`launch`), who works with it (`tasks`, `heartbeat`) or who looks
at it (`health`): they know it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy import Engine as Database

from db import session
from db.errors import ReelvecError
from db.exit_codes import ExitCode
from db.jobs import liveness
from db.jobs.liveness import Worker
from workers.delivery.refusals import Refusals
from workers.ending.draining import Drain
from workers.ending.end_signals import EndSignals
from workers.ending.recycling import Recycling
from workers.engine.engine import Engine, Load
from workers.frames.policies import Policies
from workers.frames.store import FrameStore
from workers.models import Models
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.tally import Tally

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Held:
    """A video in a task thread's hands; `since` (monotonic) it is claimed."""

    video_id: int
    since: float | None = None


@dataclass
class Runtime:
    """What one worker process holds. `database` is the pool of its task threads, `engine` the face
    of the thread that owns the device.

    A sampler node has no engine, and of models it knows how they sample. `frame_store`: where
    frames lie between two workers, if anywhere. `beating` is the heartbeat's own connection: no
    task thread keeps it busy. `look_now` set: the ledger and the broker are looked after a moment
    later instead of with the next beat. `heart` are the threads of the heartbeat; `beaten_at`
    (monotonic) Postgres last took a beat.
    """

    settings: WorkerSettings
    database: Database
    beating: Database
    engine: Engine | None
    models: Models | Policies
    samplers: SamplerPool
    videos: Videos
    identity: Worker
    closing: contextlib.ExitStack
    refusals: Refusals
    drain: Drain
    signals: EndSignals
    recycling: Recycling
    tally: Tally
    frame_store: FrameStore | None = None
    gpu_lock: socket.socket | None = None
    look_now: threading.Event = field(default_factory=threading.Event)
    heart: tuple[threading.Thread, ...] = ()
    beaten_at: float | None = None
    _held: set[Held] = field(default_factory=set)

    @property
    def worker_id(self) -> UUID:
        return self.identity.worker_id

    @property
    def name(self) -> str:
        """How people know this process: its node and process id."""
        return f"{self.identity.host}:{self.identity.pid}"

    @property
    def draining(self) -> threading.Event:
        """Set when nothing new is to be started."""
        return self.drain.begun

    @property
    def worker(self) -> Worker:
        """What this process says of itself now."""
        busy, ability = self.load, self.models.ability
        return replace(
            self.identity,
            queued_windows=busy.queued,
            running_windows=busy.running,
            models=list(ability.models or ()),
            refused_encoders=list(ability.refused),
            **self.tally.said(),
        )

    @property
    def load(self) -> Load:
        """How much waits for the device, and runs there."""
        return Load(0, 0) if self.engine is None else self.engine.busy()

    @contextlib.contextmanager
    def hold(self, video_id: int) -> Iterator[Held]:
        """Marks a video as in hand, from before its claim: that may be committed before its answer
        is here.
        """
        held = Held(video_id)
        self._held.add(held)
        try:
            yield held
        finally:
            self._held.discard(held)

    def in_hand(self) -> list[int]:
        """Videos this process works on now, or is about to."""
        return [held.video_id for held in list(self._held)]

    def longest_active_seconds(self) -> float:
        now = time.monotonic()
        return max(
            (now - held.since for held in list(self._held) if held.since is not None), default=0.0
        )

    def beat_seconds(self) -> float | None:
        """Since Postgres last took a beat; None: never."""
        return None if self.beaten_at is None else time.monotonic() - self.beaten_at

    def refuse(self, error: ReelvecError) -> None:
        """This process must not go on: hand everything back and end with the error's exit code."""
        log.error("this worker cannot go on: %s", error)
        self.drain.ask("this worker cannot go on", error.exit_code)

    def count_video(self) -> None:
        """To be called after every video: a process that has done its lot hands back the rest and
        ends.

        One that holds no other looks for work that the broker has not been told of.
        """
        if len(self._held) == 1:
            self.look_now.set()
        if (reached := self.recycling.count_video()) is not None:
            self.drain.ask(f"recycling after {reached}", ExitCode.RECYCLED)

    def give_back(self) -> None:
        """Hand back whatever is in hand, for threads that do not, and say goodbye. Raises
        `UnavailableError`.
        """
        with session.transaction(self.beating) as connection:
            given = liveness.give_back_unheld(
                connection, self.worker_id, in_hand=(), older_than_seconds=0.0
            )
            liveness.leave(connection, self.worker_id)
        log.warning("draining takes too long; the %d videos in hand are pending again", len(given))


_runtime: Runtime | None = None


def keep(made: Runtime) -> None:
    """From now on `current` and `kept` give this one: a process has one, as it has its signals."""
    global _runtime  # noqa: PLW0603
    _runtime = made


def kept() -> Runtime | None:
    """That of this process; None: it is still preparing."""
    return _runtime


def current() -> Runtime:
    """That of this process, which is ready."""
    assert _runtime is not None, "launch.prepare() comes first"
    return _runtime
