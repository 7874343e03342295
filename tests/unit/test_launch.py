"""What a worker says of itself with every beat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from db.ledger import Worker
from workers.engine.engine import Load
from workers.launch import Runtime


def test_the_load_is_that_of_the_moment() -> None:
    loads = iter([Load(36, 12), Load(0, 0)])
    names = (
        "drain",
        "signals",
        "recycling",
        "refusals",
        "settings",
        "engine",
        "beating",
        "samplers",
        "storage",
        "engine_seconds",
        "closing",
    )
    held: dict[str, Any] = dict.fromkeys(names)
    identity = Worker(uuid4(), "gpu-1", 7, "cuda:0", "1", in_flight=34, samplers=15, cores=16, videos_per_batch=4)
    runtime = Runtime(encoding=SimpleNamespace(busy=lambda: next(loads)), identity=identity, **held)  # type: ignore[arg-type]
    said = [runtime.worker, runtime.worker]
    assert [(worker.queued_windows, worker.running_windows) for worker in said] == [(36, 12), (0, 0)]
    assert [worker.worker_id for worker in said] == [runtime.worker_id] * 2
