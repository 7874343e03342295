"""What a calm run makes of videos, computed in this process with the workers' own pipeline, to
compare others with.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis
from sqlalchemy import Engine as Database
from sqlalchemy import text

from db import session
from producer.request import declared_encoder
from tests import media
from tests.vectors import as_stored
from workers import pipeline
from workers.engine.engine import Engine
from workers.pipeline import Owed
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Video
from workers.sources.file import open_file


def small_clips(folder: Path, count: int) -> list[Path]:
    """Tiny clips, each of its own seed, so that every vector tells which file it was made from."""
    folder.mkdir(parents=True)
    return [
        media.make_clip(
            folder / f"{seed:03}.mp4", seconds=1.5, fps=16, width=64, height=64, seed=seed
        )
        for seed in range(count)
    ]


def probe_vectors(paths: Sequence[Path]) -> dict[str, npt.NDArray[np.float32]]:
    """uri -> pooled vector of `probe` as the database keeps it: float32 [64] of float16, one file
    at a time.
    """
    owed = [Owed(declared_encoder("probe", "pretrained", "notebook"))]
    samplers = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    engine = Engine(device="cpu", models_dir=None)
    try:
        engine.load(owed[0].key)
        found = {}
        for path in paths:
            with open_file(path.as_uri(), None) as source:
                result = pipeline.embed_video(
                    Video(source, samplers),
                    owed,
                    engine=engine,
                    engine_seconds=60,
                    stop=threading.Event(),
                )
            found[path.as_uri()] = as_stored(result.encodings["probe"].pooled)
        return found
    finally:
        samplers.close()
        engine.close()


def stored_vectors(
    database: Database, encoder: str = "probe"
) -> dict[str, npt.NDArray[np.float32]]:
    """uri -> pooled vector in the database."""
    with session.transaction(database) as connection:
        rows = connection.execute(
            text(
                "SELECT v.uri, m.embedding::real[] FROM reelvec.video_embeddings m JOIN reelvec.encoders "
                "e USING (encoder_id) JOIN reelvec.videos v USING (video_id) WHERE e.encoder = "
                ":encoder"
            ),
            {"encoder": encoder},
        )
        return {uri: np.array(values, np.float32) for uri, values in rows}


def assert_nothing_lost_nothing_doubled(
    database: Database, broker_url: str, golden: dict[str, npt.NDArray[np.float32]]
) -> None:
    """Every video is done, has exactly its own vector, three windows, and the broker holds nothing
    any more.
    """
    with session.transaction(database) as connection:
        states = dict(
            map(
                tuple,
                connection.execute(text("SELECT state, count(*) FROM reelvec.jobs GROUP BY 1")),
            )
        )
        windows = connection.execute(
            text("SELECT count(*) FROM reelvec.window_embeddings")
        ).scalar()
    assert states == {"done": len(golden)}
    assert windows == 3 * len(golden)
    stored = stored_vectors(database)
    assert stored.keys() == golden.keys()
    for uri, vector in golden.items():
        np.testing.assert_array_equal(stored[uri], vector, err_msg=uri)
    assert len({vector.tobytes() for vector in stored.values()}) == len(golden), (
        "every file has its own vector"
    )
    with redis.Redis.from_url(broker_url) as client:
        assert client.llen("reelvec:reelvec") == 0
        assert client.hlen("reelvec:unacked") == 0
