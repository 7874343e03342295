"""Everything a worker does before it is ready, and what it holds from then on."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from uuid import UUID, uuid4

from celery.worker import state
from sqlalchemy import Engine as Database

from db import encoders, schema, session, settings
from db.administration import rights
from db.errors import ReelvecError
from db.exit_codes import ExitCode
from db.jobs import liveness
from db.jobs.liveness import Worker
from db.stack import addresses
from workers import health, heartbeat
from workers import settings as worker_settings
from workers.delivery.refusals import Refusals
from workers.ending.draining import Drain
from workers.ending.end_signals import EndSignals
from workers.ending.recycling import Recycling
from workers.engine.engine import Engine
from workers.heartbeat import Heartbeat
from workers.models import Models
from workers.node import gpu_lock, lifeline, notice, shape
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.sources.storage import Storage
from workers.tally import Tally
from workers.weights import inventory, models_dir

log = logging.getLogger(__name__)

#: A GPU is waited for this much longer than a worker that drains may hold it.
LOCK_SPARE_SECONDS = 5.0


@dataclass(eq=False)
class Held:
    """A video in a task thread's hands; `since` (monotonic) it is claimed."""

    video_id: int
    since: float | None = None


@dataclass
class Runtime:
    """What one worker process holds. `engine` is the database's pool, `encoding` the thread that
    owns the device.

    `beating` is the heartbeat's own connection: no task thread keeps it busy. `look_now` set: the
    ledger and the broker are looked after a moment later instead of with the next beat.
    """

    settings: WorkerSettings
    engine: Database
    beating: Database
    encoding: Engine
    models: Models
    samplers: SamplerPool
    videos: Videos
    identity: Worker
    closing: contextlib.ExitStack
    refusals: Refusals
    drain: Drain
    signals: EndSignals
    recycling: Recycling
    tally: Tally
    gpu_lock: socket.socket | None = None
    look_now: threading.Event = field(default_factory=threading.Event)
    heartbeat: Heartbeat = field(init=False)
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
        busy, ability = self.encoding.busy(), self.models.ability
        return replace(
            self.identity,
            queued_windows=busy.queued,
            running_windows=busy.running,
            models=list(ability.models or ()),
            refused_encoders=list(ability.refused),
            **self.tally.said(),
        )

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


def runtime() -> Runtime:
    assert _runtime is not None, "prepare() comes first"
    return _runtime


def prepare(node: str = "") -> Runtime:
    """Check everything, load what waiting jobs want, start the heartbeat. Raises `ReelvecError`
    with its exit code.

    `node` is Celery's name of this process, `gpu0@host`.
    """
    global _runtime  # noqa: PLW0603 - one per process, like the process's signals
    worker_settings.refuse_unknown()
    chosen = settings.load(WorkerSettings)
    where = addresses.resolve()
    print(addresses.describe(where), file=sys.stderr)  # noqa: T201
    drain = Drain(chosen.drain_seconds, _stop_consuming)
    end_signals = EndSignals(drain.ask)
    _watch(chosen, drain)
    with contextlib.ExitStack() as stack:
        stack.enter_context(health.of_process(chosen.health_address, lambda: _runtime))
        database = stack.enter_context(
            session.connect(where.database_url, pool_size=chosen.in_flight + 2)
        )
        with session.transaction(database) as connection:
            schema.check(connection)
            rights.require(connection, rights.WORKER)
            wanted = encoders.wanted_encoders(connection)
        inventory.require_any(
            models_dir.resolve(chosen), ((one.backbone, one.weights) for one in wanted)
        )
        encoding, tally = _engine(chosen, stack), Tally()
        samplers = _samplers(chosen, encoding, stack)
        storage = stack.enter_context(
            Storage(chosen, roots=None if where.local else chosen.roots, stop=drain.begun)
        )
        made = Runtime(
            settings=chosen,
            engine=database,
            beating=stack.enter_context(
                session.connect(
                    where.database_url, pool_size=1, statement_seconds=chosen.beat_seconds / 2
                )
            ),
            encoding=encoding,
            models=Models(database, encoding, chosen, tally),
            tally=tally,
            samplers=samplers,
            videos=Videos(storage, samplers),
            identity=_identity(chosen, encoding, node),
            closing=stack,
            refusals=Refusals(beat_seconds=chosen.beat_seconds),
            drain=drain,
            signals=end_signals,
            recycling=Recycling(chosen.recycle_videos, chosen.recycle_bytes),
            gpu_lock=_gpu_lock(chosen, encoding),
        )
        made.models.load_all(wanted)
        made.recycling.refuse_if_reached()
        drain.ready(made.give_back)
        made.heartbeat = heartbeat.start(made)
        stack.callback(made.heartbeat.stop)
        made.closing = stack.pop_all()
    _runtime = made
    log.info(
        "worker %s ready on %s: %s",
        made.worker_id,
        encoding.device_name,
        shape.describe(chosen.shape, encoding.videos_per_batch),
    )
    return made


def _engine(chosen: WorkerSettings, stack: contextlib.ExitStack) -> Engine:
    made = Engine(
        device=chosen.device,
        models_dir=models_dir.resolve(chosen),
        videos_per_batch=chosen.videos_per_batch,
        compile=chosen.compile,
        stall_seconds=chosen.engine_wait_seconds,
        ended=heartbeat.end_process,
    )
    stack.callback(made.close)
    return made


def _gpu_lock(chosen: WorkerSettings, encoding: Engine) -> socket.socket | None:
    """Two workers on one GPU halve each other's memory. One that drains is waited for."""
    gpu = encoding.gpu_uuid
    return (
        None
        if gpu is None
        else gpu_lock.take(gpu, wait_seconds=chosen.drain_seconds + LOCK_SPARE_SECONDS)
    )


def _samplers(chosen: WorkerSettings, encoding: Engine, stack: contextlib.ExitStack) -> SamplerPool:
    made = SamplerPool(
        chosen.shape.samplers,
        wall_seconds=chosen.sampling_wall_seconds,
        cpu_seconds=chosen.sampling_cpu_seconds,
        new_frames=encoding.new_frames,
    )
    stack.callback(made.close)
    return made


def _identity(chosen: WorkerSettings, encoding: Engine, node: str) -> Worker:
    return Worker(
        worker_id=uuid4(),
        host=platform.node(),
        pid=os.getpid(),
        device=encoding.device_name,
        version=metadata.version("reelvec"),
        in_flight=chosen.in_flight,
        samplers=chosen.shape.samplers,
        cores=chosen.shape.cores,
        videos_per_batch=encoding.videos_per_batch,
        name=_name(node, encoding.device_name),
    )


def _name(node: str, device: str) -> str:
    """What people call this process: the name it was started with, or its kind of device where that
    is Celery's own.
    """
    name = node.partition("@")[0]
    return name if name not in ("", "celery") else "cpu" if device.startswith("cpu") else "gpu"


def handle_signals() -> None:
    """Put our handlers of signals in the place of Celery's, of which some end with tracebacks and
    one starts anew.
    """
    runtime().signals.install()


def celery_ends() -> None:
    """Celery leaves its loop, told by us or for reasons of its own: from now on the drain's
    deadlines hold.
    """
    runtime().drain.ask("Celery has ended its work", ExitCode.FAILED)


def close() -> None:
    """The last thing a worker does. An exit code that is not 0 is returned here, because Celery
    knows only its own.
    """
    if _runtime is None:
        return
    _runtime.closing.close()
    if _runtime.drain.exit_code != ExitCode.OK:
        sys.stderr.flush()
        os._exit(_runtime.drain.exit_code)


def _watch(chosen: WorkerSettings, drain: Drain) -> None:
    """Drain when the supervisor is gone or, where there is none, when notice is given."""
    if chosen.lifeline_fd is not None:
        lifeline.watch(chosen.lifeline_fd, lambda: drain.ask("the supervisor is gone"))
    elif chosen.spot_notice is not None:
        notice.watch(chosen.spot_notice, lambda: drain.ask("this node will be taken away"))


def _stop_consuming() -> None:
    state.should_stop = ExitCode.OK  # as Celery's own handler of SIGTERM does
