"""A sampler node and a worker that embeds, as separate processes with a folder between them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine

from tests.conftest import FAST, Desk, WorkerProcess
from tests.golden_run import probe_vectors, small_clips, stored_vectors
from tests.ledgering import execute, one
from tests.servers import PATIENCE_SECONDS

Start = Callable[..., WorkerProcess]
WAITING = """SELECT count(*) FROM reelvec.jobs WHERE stage = 'frames' AND state IN ('pending', 'queued')"""


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


@pytest.fixture
def sampler(desk: Desk, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`reelvec worker --stage sample`, and the process that it starts."""
    with (tmp_path / "sampler.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("reelvec")), "worker", "--stage", "sample"],
            env={
                **desk.environment,
                **FAST,
                "REELVEC_SAMPLERS": "1",
                "REELVEC_FRAMES": str(tmp_path / "frames"),
            },
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
        yield process
        process.terminate()
        assert process.wait(timeout=40) == 0


def test_what_one_samples_another_embeds_and_nothing_that_is_damaged(
    desk: Desk,
    tmp_path: Path,
    sampler: subprocess.Popen[bytes],
    start_worker: Start,
    engine: Engine,
) -> None:
    (tmp_path / "frames").mkdir()
    clips = small_clips(tmp_path / "clips", 6)
    desk.run("enqueue", "clips", "--backbone", "probe", "--keep-frames")
    until(lambda: one(engine, WAITING) == 6, "all are sampled")
    _has_no_torch(sampler)
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 0
    _spoil(engine, tmp_path / "frames")

    start_worker(REELVEC_FRAMES=str(tmp_path / "frames"))
    desk.run("enqueue", "--backbone", "probe", "--wait")
    intact = "SELECT bool_and(frames_bytes > 0) FROM reelvec.jobs WHERE video_id > 3"
    assert one(engine, intact) is True, "what is lost may be sampled by either of them"
    assert one(
        engine, "SELECT string_agg(split_part(error, ':', 1), ' ' ORDER BY video_id) FROM "
        "reelvec.attempts WHERE error_code = 'frames_lost'",
    ) == "pack_damaged pack_damaged pack_foreign"  # fmt: skip
    stored = stored_vectors(engine)
    for uri, vector in probe_vectors(clips).items():
        np.testing.assert_array_equal(stored[uri], vector)

    (tmp_path / "clips").rename(tmp_path / "away")
    desk.run("enqueue", "--backbone", "vivit", "--weights", "random-tiny", "--wait")
    assert one(engine, "SELECT count(*) FROM reelvec.vivit_random_tiny") == 6, "nothing was read"
    shown = desk.run("reelvec", "status").stdout
    assert "frames: 1 sampler node, 0 videos being sampled there, 0 sampled ahead" in shown


def _has_no_torch(sampler: subprocess.Popen[bytes]) -> None:
    (worker,) = psutil.Process(sampler.pid).children()
    mapped = {Path(one.path).name for one in worker.memory_maps()}
    assert any("libpython" in name or "python3" in name for name in mapped), "the right process"
    assert not [name for name in mapped if "torch" in name]


def _spoil(engine: Engine, store: Path) -> None:
    """Of the first three videos: a byte flipped, an object cut, and the pack of another video."""
    digests = [
        str(
            one(
                engine,
                "SELECT digest FROM reelvec.packs WHERE video_id = :video_id",
                video_id=video,
            )
        )
        for video in (1, 2, 3, 4)
    ]
    flipped, cut = (next(store.rglob(f"*{digest}*")) for digest in digests[:2])
    whole = bytearray(flipped.read_bytes())
    whole[len(whole) // 2] ^= 1
    flipped.write_bytes(whole)
    cut.write_bytes(cut.read_bytes()[:-1000])
    execute(
        engine, "UPDATE reelvec.packs SET digest = :digest WHERE video_id = 3", digest=digests[3]
    )
