"""What a worker says of itself with every beat, and when it looks for more work at once."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from uuid import uuid4

from db.jobs.abilities import Ability
from db.jobs.liveness import Worker
from workers.engine.engine import Load
from workers.runtime import Runtime
from workers.tally import Tally


def holding(**facts: object) -> Runtime:
    """A runtime with nothing in it but these."""
    required = [
        part.name for part in fields(Runtime) if part.init and part.default is part.default_factory
    ]
    return Runtime(**{**dict.fromkeys(required), **facts})  # type: ignore[arg-type]


def test_the_load_is_that_of_the_moment() -> None:
    loads = iter([Load(36, 12), Load(0, 0)])
    identity = Worker(
        uuid4(), "gpu-1", 7, "cuda:0", "1", in_flight=34, samplers=15, cores=16, videos_per_batch=4
    )
    models = SimpleNamespace(ability=Ability(("vivit",), (3,)))
    runtime = holding(
        engine=SimpleNamespace(busy=lambda: next(loads)),
        identity=identity,
        models=models,
        tally=Tally(),
    )
    said = [runtime.worker, runtime.worker]
    assert [(worker.queued_windows, worker.running_windows) for worker in said] == [
        (36, 12),
        (0, 0),
    ]
    assert [worker.worker_id for worker in said] == [runtime.worker_id] * 2
    assert (said[0].models, said[0].refused_encoders) == (["vivit"], [3])


def test_who_holds_nothing_else_looks_for_more_at_once() -> None:
    runtime = holding(recycling=SimpleNamespace(count_video=lambda: None))
    with runtime.hold(1):
        with runtime.hold(2):
            runtime.count_video()
            assert not runtime.look_now.is_set()
        runtime.count_video()
        assert runtime.look_now.is_set()
