"""The real thing, measured from outside: `enqueue`, then `reelvec worker`, the clock being the
ledger's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, text

from bench import pipeline_cpu
from db import schema, session
from db.stack.local_stack import LocalStack, StackState
from workers.backbones import registry

#: The scripts' own entry, so that no installed script need be found.
REELVEC = (sys.executable, "-c", "from producer.cli import main; main()")
LOOK_SECONDS = 0.25
STOP_SECONDS = 60
#: After the last video a worker looks after the broker and the ledger once more.
SETTLE_SECONDS = 10

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Work:
    """What every contestant is given to do."""

    files: tuple[Path, ...]
    backbones: tuple[str, ...]
    weights: str
    samplers: int
    on_gpu: bool


@dataclass(frozen=True)
class Run:
    """One run of a worker: how long its `videos` took, those that ended while samplers started left
    out; CPU seconds of one video by process; `idle`, the share of a core it took afterwards,
    samplers included (None: not measured)."""

    videos: int
    seconds: float
    cpu: dict[str, float]
    stages: dict[str, float]
    device: str
    idle: float | None

    @property
    def rate(self) -> float:
        return self.videos / self.seconds


class Stack:
    """A private Postgres and broker, and the environment in which commands find them."""

    def __init__(self, folder: Path, state: StackState, engine: Engine) -> None:
        self.folder = folder
        self.state = state
        self.engine = engine

    def environment(self, samplers: int) -> dict[str, str]:
        """The user's, without his addresses and settings."""
        others = ("DATABASE_URL", "CELERY_BROKER_URL")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in others and not name.startswith("REELVEC_")
        }
        return {
            **kept,
            "REELVEC_DATA_DIR": str(self.folder / "stack"),
            "REELVEC_SAMPLERS": str(samplers),
        }

    def vectors(self, uri: str, work: Work) -> dict[str, np.ndarray]:
        """A video's pooled vectors by backbone, as the database has them."""
        names = {registry.encoder_name(name, work.weights): name for name in work.backbones}
        with session.transaction(self.engine) as connection:
            rows = connection.execute(
                text(
                    "SELECT encoder, m.embedding::real[] FROM reelvec.video_embeddings m JOIN "
                    "reelvec.encoders USING (encoder_id) JOIN reelvec.videos USING (video_id) "
                    "WHERE uri = :uri"
                ),
                {"uri": uri},
            ).all()
        return {
            names[encoder]: np.asarray(vector, np.float32)
            for encoder, vector in rows
            if encoder in names
        }


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Durable, as production is."""
    folder.chmod(0o755)  # the servers' own user has to pass where this is root
    servers = LocalStack(folder / "stack")
    state = servers.up()
    try:
        schema.upgrade(state.database_url)
        with session.connect(state.database_url, pool_size=1) as engine:
            yield Stack(folder, state, engine)
    finally:
        servers.down()


def run(made: Stack, work: Work, *, idle_seconds: float = 0) -> Run:
    """Record and publish all files again, start a worker, wait for the last, watch it idle, stop
    it.
    """
    environment = made.environment(work.samplers)
    chosen = [word for name in work.backbones for word in ("--backbone", name)]
    log_path = made.folder / "worker.log"
    source = str(work.files[0].parent)
    with log_path.open("ab") as log:
        enqueue = [*REELVEC, "enqueue", source, "--force", "--weights", work.weights, *chosen]
        if subprocess.run(enqueue, env=environment, stdout=log, stderr=log, check=False).returncode:
            raise SystemExit(f"enqueue failed:\n{_tail(log_path)}")
        worker = subprocess.Popen([*REELVEC, "worker"], env=environment, stdout=log, stderr=log)
        try:
            roots = {
                "worker": worker.pid,
                "Postgres": made.state.postgres_pid,
                "broker": made.state.broker_pid,
            }
            cpu = _wait(made, worker, roots, log_path)
            device = _device(made.engine)
            idle = _idle(roots, idle_seconds) if idle_seconds else None
        finally:
            worker.terminate()
            worker.wait(STOP_SECONDS)
    return _facts(made, cpu, device, log_path, first=work.samplers, idle=idle)


def _idle(roots: dict[str, int], seconds: float) -> float:
    """The share of a core that a worker with nothing to do takes, samplers included."""
    console.print(f"  idle for {seconds:g} s")
    time.sleep(SETTLE_SECONDS)
    before = pipeline_cpu.by_kind(roots)
    time.sleep(seconds)
    after = pipeline_cpu.by_kind(roots)
    return sum(after[kind] - before[kind] for kind in ("worker", "samplers")) / seconds


def _wait(
    made: Stack, worker: subprocess.Popen[bytes], roots: dict[str, int], log_path: Path
) -> dict[str, float]:
    """CPU seconds by kind between the first claim and the last finish, about."""
    columns = (TextColumn("  the worker"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    before: dict[str, float] | None = None
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        while True:
            counts = _counts(made.engine)
            finished, total = counts["done"] + counts["failed"], counts.total()
            progress.update(task, total=total, completed=finished)
            if before is None and counts["running"] + finished:
                before = pipeline_cpu.by_kind(roots)
            if finished == total:
                after = pipeline_cpu.by_kind(roots)
                return {kind: seconds - (before or after)[kind] for kind, seconds in after.items()}
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended with {worker.returncode}:\n{_tail(log_path)}")
            time.sleep(LOOK_SECONDS)


def _counts(engine: Engine) -> Counter[str]:
    with session.transaction(engine) as connection:
        rows = connection.execute(
            text("SELECT state, count(*) FROM reelvec.jobs GROUP BY state")
        ).all()
    return Counter({row.state: row.count for row in rows})


def _device(engine: Engine) -> str:
    """What the worker, which still runs, says that it computes on."""
    with session.transaction(engine) as connection:
        return str(
            connection.execute(
                text("SELECT device FROM reelvec.workers ORDER BY beat_at DESC LIMIT 1")
            ).scalar_one()
        )


def _facts(
    made: Stack,
    cpu: dict[str, float],
    device: str,
    log_path: Path,
    *,
    first: int,
    idle: float | None,
) -> Run:
    """Of the videos that ended after the first `first`: those found the samplers starting."""
    with session.transaction(made.engine) as connection:
        row = connection.execute(
            text(
                "SELECT count(*) FILTER (WHERE state = 'done') AS done, count(*) AS videos, "
                "extract(epoch FROM max(finished_at) - (array_agg(finished_at ORDER BY "
                "finished_at))[:first])::float AS seconds, avg(decode_seconds) AS decode, "
                "avg(fetch_seconds) AS fetch, avg(wait_seconds) AS wait, avg(device_seconds) AS "
                "device, avg(extract(epoch FROM finished_at - started_at))::float AS whole FROM "
                "reelvec.jobs"
            ),
            {"first": first},
        ).one()
    if row.done < row.videos:
        raise SystemExit(
            f"{row.videos - row.done} of {row.videos} videos failed:\n{_tail(log_path)}"
        )
    stages = {
        name: round(getattr(row, name), 4)
        for name in ("fetch", "decode", "wait", "device", "whole")
    }
    each = {kind: seconds / row.videos for kind, seconds in cpu.items()}
    return Run(row.videos - first, row.seconds, each, stages, device, idle)


def _tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def as_dict(run_made: Run) -> dict[str, object]:
    return {**asdict(run_made), "videos_per_second": run_made.rate}
