"""Short ways to rows of the ledger, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import Connection, Engine, text

from db import encoders, ledger, session
from db.canary.references import FINE, Judgement
from db.encoders import Encoder
from db.jobs import abilities, catalogue, feeding, liveness
from db.jobs.abilities import Ability
from db.jobs.catalogue import Counts, Wanted
from db.jobs.liveness import Worker
from db.jobs.outcome import EncoderRows, Outcome, TaggerRows
from db.jobs.stages import COMMON, FRAMES, VIDEO
from db.labels import LabelSet
from db.ledger import Claim
from producer.sources.reading import VideoRow as Row

T = TypeVar("T")

LABELS = LabelSet("pets", ("a cat", "a dog"), ("cats", "dogs"))


def encoder(name: str = "probe", **facts: str) -> Encoder:
    return Encoder(
        name=name,
        **{
            "backbone": name, "checkpoint": "none", "ref": "none", "weights": "pretrained", "license": "MIT",
            "sampling": "notebook", "preprocessing": "p", **facts,
        },  # type: ignore[arg-type]
        frames_per_window=32,
    )  # fmt: skip


def declare(engine: Engine, name: str = "probe") -> int:
    with session.transaction(engine) as connection:
        return encoders.declare_encoder(connection, encoder(name))


def record(engine: Engine, rows: Sequence[Row], wanted: Wanted) -> Counts:
    with session.transaction(engine) as connection:
        catalogue.begin(connection)
        return catalogue.record(connection, rows, wanted)


def saying(worker_id: UUID) -> Worker:
    """What a small worker says of itself."""
    return Worker(
        worker_id=worker_id, host="here", pid=os.getpid(), device="cpu", version="0",
        in_flight=3, samplers=1, cores=2.0, videos_per_batch=1,
    )  # fmt: skip


def worker(engine: Engine, *, gap_seconds: float = 20.0) -> UUID:
    me = saying(uuid4())
    with session.transaction(engine) as connection:
        liveness.beat(connection, me, draining=False, gap_seconds=gap_seconds)
    return me.worker_id


def claim(
    engine: Engine,
    video_id: int,
    worker_id: UUID,
    ability: Ability = ledger.EVERYTHING,
    takes: Sequence[str] = (VIDEO, FRAMES),
) -> Claim | None:
    with session.transaction(engine) as connection:
        return ledger.claim(
            connection, video_id, worker_id, job_seconds=3600.0, ability=ability, takes=takes
        )


def feed(connection: Connection, *, room: int) -> list[int]:
    """Feed everybody's queue alone."""
    fleet = abilities.read(connection, stale_seconds=45.0)
    return feeding.feed(connection, fleet, rooms={COMMON: room}).get(COMMON, [])


def vectors(encoder_id: int, value: float = 1.0, dim: int = 4) -> EncoderRows:
    return EncoderRows(
        encoder_id,
        np.full(dim, value, np.float32),
        np.full((3, dim), value, np.float32),
        np.array([[0, 1], [1, 2], [2, 3]], np.float32),
        "float32",
    )


def scores(tagger_id: int) -> TaggerRows:
    return TaggerRows(
        tagger_id, LABELS.categories, np.array([[0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], np.float32)
    )


def finish(engine: Engine, claimed: Claim, outcome: Outcome) -> str | None:
    with session.transaction(engine) as connection:
        state = ledger.finish(connection, claimed, outcome, first_delay_seconds=5.0)
        if state is None:
            connection.rollback()
        return state


def one(engine: Engine, statement: str, **facts: object) -> object:
    with session.transaction(engine) as connection:
        return connection.execute(text(statement), facts).scalar()


def state_of(engine: Engine, video_id: int) -> str:
    return str(
        one(engine, "SELECT state FROM reelvec.jobs WHERE video_id = :video_id", video_id=video_id)
    )


def execute(engine: Engine, statement: str, **facts: object) -> None:
    with session.transaction(engine) as connection:
        connection.execute(text(statement), facts)


def read(engine: Engine, query: Callable[[Connection], T]) -> T:
    with session.transaction(engine) as connection:
        return query(connection)


def ten_videos(engine: Engine) -> None:
    """Pending: 1-3 films in one bucket, 4-5 animals in another, 6-10 files without a category."""
    rows = [
        *(Row(f"s3://one/a_{i}.mp4", external_id=f"rt-{i}", category="films") for i in range(3)),
        *(Row(f"s3://two/a%_{i}.mp4", category="animals") for i in range(2)),
        *(Row(f"file:///v/{i}.mp4") for i in range(5)),
    ]
    wanted = Wanted((declare(engine),), ())
    for row in rows:  # one by one: ids in this order
        record(engine, [row], wanted)


def set_jobs(engine: Engine, video_ids: str, **columns: str) -> None:
    """`set_jobs(engine, "1,2", state="'done'", finished_at="now()")`: columns as SQL."""
    assignments = ", ".join(f"{name} = {value}" for name, value in columns.items())
    execute(engine, f"UPDATE reelvec.jobs SET {assignments} WHERE video_id IN ({video_ids})")


def ago(seconds: float) -> str:
    return f"now() - interval '{seconds} s'"


class Unwatched:
    """In the place of a canary: loads by `load`, and finds nothing wrong."""

    def __init__(self, load: Callable[[object], object]) -> None:
        self.load = load

    def barred(self) -> dict[int, Judgement]:
        return {}

    def add(self, *_: object) -> Judgement:
        return FINE

    def wrote(self, _: object) -> None:
        """Nothing is watched."""
