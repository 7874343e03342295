"""What a worker says of itself with every beat, and which of the encoders it is given it runs."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from uuid import uuid4

from sqlalchemy import Engine

from db.encoders import Tagger
from db.ledger import Claim
from db.liveness import Worker
from tests.ledgering import LABELS, encoder
from workers.engine.engine import Load
from workers.launch import Runtime
from workers.pipeline import Owed


def holding(**facts: object) -> Runtime:
    """A runtime with nothing in it but these."""
    required = [part.name for part in fields(Runtime) if part.init and part.default is part.default_factory]
    return Runtime(**{**dict.fromkeys(required), **facts})  # type: ignore[arg-type]


def test_the_load_is_that_of_the_moment() -> None:
    loads = iter([Load(36, 12), Load(0, 0)])
    identity = Worker(uuid4(), "gpu-1", 7, "cuda:0", "1", in_flight=34, samplers=15, cores=16, videos_per_batch=4)
    runtime = holding(encoding=SimpleNamespace(busy=lambda: next(loads)), identity=identity)
    said = [runtime.worker, runtime.worker]
    assert [(worker.queued_windows, worker.running_windows) for worker in said] == [(36, 12), (0, 0)]
    assert [worker.worker_id for worker in said] == [runtime.worker_id] * 2


def test_what_is_paused_is_not_run_nor_are_the_taggers_that_read_it(engine: Engine) -> None:
    names = {1: encoder("one"), 2: encoder("two")}
    taggers = {7: Tagger(7, "one/pets", 1, LABELS), 8: Tagger(8, "two/pets", 2, LABELS)}
    runtime = holding(engine=engine, _encoders=names, _taggers=taggers)
    claimed = Claim(1, "file:///a", None, uuid4(), 1, 1, 0, 0, (1, 2), (7, 8), (1, 2), (7, 8), paused_encoders=(1,))
    assert runtime.owed(claimed) == [Owed(names[2], (taggers[8],))]
    assert [owed.encoder for owed in runtime.owed(replace(claimed, paused_encoders=()))] == [names[1], names[2]]
