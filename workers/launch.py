"""Everything a worker does before it is ready, and after its last video."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import sys
from importlib import metadata
from typing import Any
from uuid import uuid4

from celery.worker import state
from sqlalchemy import Engine as Database

from db import encoders, schema, session, settings
from db.administration import rights
from db.errors import RefusedConfigurationError
from db.exit_codes import ExitCode
from db.jobs.liveness import Worker
from db.stack import addresses
from workers import health, runtime
from workers import settings as worker_settings
from workers.canary.check import CanaryWatch, Me
from workers.delivery.refusals import Refusals
from workers.ending.at_once import end_process
from workers.ending.draining import Drain
from workers.ending.end_signals import EndSignals
from workers.ending.recycling import Recycling
from workers.engine.engine import Engine
from workers.frames.opening import open_store
from workers.frames.policies import Policies
from workers.frames.store import FrameStore
from workers.heartbeat import Heartbeat
from workers.models import Models
from workers.node import gpu_lock, lifeline, notice, shape
from workers.runtime import Runtime
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.sources.storage import Storage
from workers.tally import Tally
from workers.weights import inventory, models_dir

log = logging.getLogger(__name__)

#: A GPU is waited for this much longer than a worker that drains may hold it.
LOCK_SPARE_SECONDS = 5.0


def prepare(app: Any, node: str = "") -> Runtime:
    """Check everything, load what waiting jobs want, start the heartbeat. Raises `ReelvecError`
    with its exit code.

    `app` is Celery's, `node` its name of this process, `gpu0@host`.
    """
    worker_settings.refuse_unknown()
    chosen = settings.load(WorkerSettings)
    where = addresses.resolve()
    print(addresses.describe(where), file=sys.stderr)  # noqa: T201
    drain = Drain(chosen.drain_seconds, _stop_consuming)
    end_signals = EndSignals(drain.ask)
    _watch(chosen, drain)
    with contextlib.ExitStack() as stack:
        stack.enter_context(health.of_process(chosen.health_address, runtime.kept))
        database = stack.enter_context(
            session.connect(where.database_url, pool_size=chosen.slots + 3)
        )
        with session.transaction(database) as connection:
            schema.check(connection)
            rights.require(connection, rights.WORKER)
            wanted = encoders.wanted_encoders(connection)
        frame_store, tally, engine = _frame_store(chosen, drain, stack), Tally(), None
        if chosen.stage == "video":
            inventory.require_any(
                models_dir.resolve(chosen), ((one.backbone, one.weights) for one in wanted)
            )
            engine = _engine(chosen, stack)
        samplers = _samplers(chosen, engine, stack)
        storage = stack.enter_context(
            Storage(chosen, roots=None if where.local else chosen.roots, stop=drain.begun)
        )
        identity = _identity(chosen, engine, node)
        made = Runtime(
            settings=chosen,
            database=database,
            beating=stack.enter_context(
                session.pool(
                    where.database_url, pool_size=1, statement_seconds=chosen.beat_seconds / 2
                )
            ),
            engine=engine,
            models=_models(chosen, database, engine, identity, tally),
            tally=tally,
            samplers=samplers,
            videos=Videos(storage, samplers),
            frame_store=frame_store,
            identity=identity,
            closing=stack,
            refusals=Refusals(beat_seconds=chosen.beat_seconds),
            drain=drain,
            signals=end_signals,
            recycling=Recycling(chosen.recycle_videos, chosen.recycle_bytes),
            gpu_lock=None if engine is None else _gpu_lock(chosen, engine),
        )
        if isinstance(made.models, Models):
            made.models.load_all(wanted)
        made.recycling.refuse_if_reached()
        drain.ready(made.give_back)
        heartbeat = Heartbeat(made, app)
        heartbeat.start()
        stack.callback(heartbeat.stop)
        made.closing = stack.pop_all()
    runtime.keep(made)
    log.info(
        "worker %s ready on %s: %s",
        made.worker_id,
        identity.device,
        shape.describe(chosen.shape, identity.videos_per_batch),
    )
    return made


def _frame_store(
    chosen: WorkerSettings, drain: Drain, stack: contextlib.ExitStack
) -> FrameStore | None:
    store = open_store(chosen, stop=drain.begun)
    if store is not None:
        stack.callback(store.close)
    elif chosen.stage == "sample":
        raise RefusedConfigurationError(
            "a sampler node writes frames for others: set REELVEC_FRAMES, here and on the workers "
            "with a GPU, to a bucket (s3://bucket/prefix) or a folder that all of them see"
        )
    return store


def _models(
    chosen: WorkerSettings,
    database: Database,
    engine: Engine | None,
    identity: Worker,
    tally: Tally,
) -> Models | Policies:
    if engine is None:
        return Policies(database)
    return Models(database, _canary(chosen, database, engine, identity), chosen, tally)


def _engine(chosen: WorkerSettings, stack: contextlib.ExitStack) -> Engine:
    made = Engine(
        device=chosen.device,
        models_dir=models_dir.resolve(chosen),
        videos_per_batch=chosen.videos_per_batch,
        compile=chosen.compile,
        stall_seconds=chosen.engine_wait_seconds,
        ended=end_process,
    )
    stack.callback(made.close)
    return made


def _canary(
    chosen: WorkerSettings, database: Database, engine: Engine, identity: Worker
) -> CanaryWatch:
    me = Me(
        worker_id=identity.worker_id,
        name=f"{identity.name}@{identity.host}",
        machine=engine.gpu_uuid or identity.host,
        device=identity.device,
    )
    return CanaryWatch(
        database,
        engine,
        me,
        check_seconds=chosen.canary_seconds,
        wait_seconds=chosen.engine_wait_seconds,
    )


def _gpu_lock(chosen: WorkerSettings, engine: Engine) -> socket.socket | None:
    """Two workers on one GPU halve each other's memory. One that drains is waited for."""
    gpu = engine.gpu_uuid
    return (
        None
        if gpu is None
        else gpu_lock.take(gpu, wait_seconds=chosen.drain_seconds + LOCK_SPARE_SECONDS)
    )


def _samplers(
    chosen: WorkerSettings, engine: Engine | None, stack: contextlib.ExitStack
) -> SamplerPool:
    made = SamplerPool(
        chosen.shape.samplers,
        wall_seconds=chosen.sampling_wall_seconds,
        cpu_seconds=chosen.sampling_cpu_seconds,
        **({} if engine is None else {"new_frames": engine.new_frames}),
    )
    stack.callback(made.close)
    return made


def _identity(chosen: WorkerSettings, engine: Engine | None, node: str) -> Worker:
    device = "cpu" if engine is None else engine.device_name
    return Worker(
        worker_id=uuid4(),
        host=platform.node(),
        pid=os.getpid(),
        device=device,
        version=metadata.version("reelvec"),
        in_flight=chosen.in_flight,
        samplers=chosen.shape.samplers,
        cores=chosen.shape.cores,
        videos_per_batch=0 if engine is None else engine.videos_per_batch,
        name=_name(node, "sampler" if engine is None else device),
        stage=chosen.stage,
        pack_slots=chosen.pack_slots,
    )


def _name(node: str, device: str) -> str:
    """What people call this process: the name it was started with, or its kind of device where that
    is Celery's own.
    """
    name = node.partition("@")[0]
    return name if name not in ("", "celery") else device if device in ("sampler", "cpu") else "gpu"


def handle_signals() -> None:
    """Put our handlers of signals in the place of Celery's, of which some end with tracebacks and
    one starts anew.
    """
    runtime.current().signals.install()


def celery_ends() -> None:
    """Celery leaves its loop, told by us or for reasons of its own: from now on the drain's
    deadlines hold.
    """
    runtime.current().drain.ask("Celery has ended its work", ExitCode.FAILED)


def close() -> None:
    """The last thing a worker does. An exit code that is not 0 is returned here, because Celery
    knows only its own.
    """
    if (made := runtime.kept()) is None:
        return
    made.closing.close()
    if made.drain.exit_code != ExitCode.OK:
        sys.stderr.flush()
        os._exit(made.drain.exit_code)


def _watch(chosen: WorkerSettings, drain: Drain) -> None:
    """Drain when the supervisor is gone or, where there is none, when notice is given."""
    if chosen.lifeline_fd is not None:
        lifeline.watch(chosen.lifeline_fd, lambda: drain.ask("the supervisor is gone"))
    elif chosen.spot_notice is not None:
        notice.watch(chosen.spot_notice, lambda: drain.ask("this node will be taken away"))


def _stop_consuming() -> None:
    state.should_stop = ExitCode.OK  # as Celery's own handler of SIGTERM does
