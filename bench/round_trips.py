"""Postgres far away: how fast one worker is when every answer of the database takes 50 ms.

    python -m bench.round_trips [--milliseconds 50] [--videos 600] [--sampling-seconds 0.3]

The task threads of one worker with 15 samplers, its ledger, its engine with `probe`, a real
Postgres behind a proxy that delays. The samplers are faked: one of 15 is held for so long a video,
as a core would be. Prints the row of bench/RESULTS.md: videos/s, and what the samplers allow.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sqlalchemy import Engine as Database
from sqlalchemy.engine import make_url

from db import encoders, schema, session
from db.jobs.catalogue import Wanted
from db.media import MediaFacts
from db.stack.local_stack import LocalStack
from producer.request import declared_encoder
from producer.sources.reading import VideoRow
from tests.ledgering import Unwatched, one, record, worker
from tests.proxy import Proxy
from workers import tasks
from workers.delivery.refusals import Refusals
from workers.engine.engine import Engine
from workers.models import Models
from workers.runtime import Runtime
from workers.sampling.frames import Frames
from workers.sampling.plan import FRAMES, SHAPE
from workers.settings import WorkerSettings
from workers.tally import Tally

SAMPLERS = 15
PIXELS = np.random.default_rng(7).integers(0, 256, SHAPE, np.uint8)


class Video:
    """Frames after one of the samplers was held for a while."""

    etag, size_bytes = "v1", 9
    samplers = threading.BoundedSemaphore(SAMPLERS)

    def __init__(self, sampling_seconds: float) -> None:
        self._seconds = sampling_seconds

    def frames(self, _policy: str, **_: object) -> Frames:
        with self.samplers:
            time.sleep(self._seconds)
        return Frames(
            pixels=PIXELS, indices=np.arange(FRAMES), pts_seconds=np.arange(FRAMES) / 25,
            facts=MediaFacts("h264", 320, 180, fps=25.0, duration_seconds=4.0), version=self.etag,
            frame_count=100, frames_decoded=96, decode_mode="sparse", decode_errors=0,
            damaged_share=0.0, bytes_read=9, fetch_seconds=0.0, decode_seconds=self._seconds,
        )  # fmt: skip


@contextmanager
def one_worker(
    database: Database, near: Database, sampling_seconds: float
) -> Iterator[tuple[Any, WorkerSettings]]:
    chosen, engine = WorkerSettings(samplers=SAMPLERS), Engine(device="cpu", models_dir=None)

    @contextmanager
    def opened(_uri: str) -> Iterator[Video]:
        yield Video(sampling_seconds)

    made: Any = SimpleNamespace(
        database=database, engine=engine, worker_id=worker(near), draining=threading.Event(),
        settings=chosen, refusals=Refusals(beat_seconds=10.0), tally=Tally(), _held=set(),
        models=Models(database, Unwatched(engine.load), chosen, Tally()), videos=SimpleNamespace(open=opened),
        frame_store=None, look_now=threading.Event(), count_video=lambda: None,
    )  # fmt: skip
    made.hold = functools.partial(Runtime.hold, made)
    try:
        yield made, chosen
    finally:
        engine.close()


def measure(database_url: str, *, milliseconds: float, videos: int, seconds: float) -> float:
    """Videos per second, the model loaded before."""
    url = make_url(database_url)
    with (
        session.connect(database_url) as near,
        Proxy(f"{url.host}:{url.port}") as proxy,
        session.connect(proxy.url(database_url), pool_size=2 * SAMPLERS + 3) as far,
        one_worker(far, near, seconds) as (made, chosen),
    ):
        with session.transaction(near) as connection:
            probe = declared_encoder("probe", "pretrained", "notebook")
            wanted = Wanted((encoders.declare_encoder(connection, probe),), ())
        record(near, [VideoRow(f"file:///v/{number}.mp4") for number in range(videos + 1)], wanted)
        tasks._take(made, 1)
        proxy.slow(delay_seconds=milliseconds / 2000)  # in either direction
        with ThreadPoolExecutor(chosen.in_flight) as pool:
            started = time.perf_counter()
            list(pool.map(lambda video_id: tasks._take(made, video_id), range(2, videos + 2)))
            took = time.perf_counter() - started
        done = one(near, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")
        assert done == videos + 1, f"{done} of {videos + 1} are done"
        return videos / took


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--milliseconds", type=float, default=50.0)
    options.add_argument("--videos", type=int, default=600)
    options.add_argument("--sampling-seconds", type=float, default=0.3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        stack = LocalStack(Path(folder) / "stack")
        state = stack.up()
        try:
            schema.upgrade(state.database_url)
            rate = measure(
                state.database_url,
                milliseconds=chosen.milliseconds,
                videos=chosen.videos,
                seconds=chosen.sampling_seconds,
            )
        finally:
            stack.down()
    allowed = SAMPLERS / chosen.sampling_seconds
    print(
        f"| one worker of `probe`, {chosen.milliseconds:g} ms to Postgres, {SAMPLERS} faked "
        f"samplers that allow {allowed:.0f}/s | {rate:.1f} videos/s |"
    )


if __name__ == "__main__":
    main()
