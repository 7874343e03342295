"""Weights that only some workers have, or nobody: what can be made is made, what waits is told, and
one command ends it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests import media
from tests.conftest import Desk, WorkerProcess
from tests.fleet import until
from tests.ledgering import one
from tests.weights import make_models_dir

VIDEOS = 2


def clips(folder: Path, count: int) -> None:
    folder.mkdir()
    media.make_clip(folder / "0.mp4", seconds=1)
    for index in range(1, count):
        shutil.copy(folder / "0.mp4", folder / f"{index}.mp4")


def models(desk: Desk, *, expect: int) -> dict[str, dict[str, int]]:
    seen = json.loads(desk.run("reelvec", "status", "--json", expect=expect).stdout)
    return {model.pop("encoder"): model for model in seen["models"]}


@pytest.mark.timeout(300)
def test_a_fleet_of_which_one_has_the_weights(
    desk: Desk, tmp_path: Path, start_worker: Callable[..., WorkerProcess], engine: Engine
) -> None:
    assert_what_can_be_made_is_made(desk, tmp_path, start_worker, engine, videos=VIDEOS)


def assert_what_can_be_made_is_made(
    desk: Desk,
    tmp_path: Path,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    *,
    videos: int,
) -> None:
    """`videos` that want two models and a worker that has one of them; the other is withdrawn, then
    a worker comes that has both, and as many videos more.
    """
    make_models_dir(tmp_path / "one", ["vivit"])
    make_models_dir(tmp_path / "both", ["vivit", "siglip2"])
    for folder in ("first", "second"):
        clips(tmp_path / folder, videos)
    (tmp_path / "pets.txt").write_text("a cat\na dog\n", encoding="utf-8")
    both = ("--backbone", "vivit", "--backbone", "siglip2", "--labels", "pets.txt")
    embedded = (
        "SELECT count(*) FROM reelvec.video_embeddings JOIN reelvec.encoders USING (encoder_id) WHERE "
        "encoder = :encoder"
    )

    without = start_worker(REELVEC_MODELS_DIR=str(tmp_path / "one"))
    until(
        lambda: one(engine, "SELECT count(*) FROM reelvec.workers") == 1,
        "a worker is ready",
        seconds=120,
    )
    told = desk.run("enqueue", "first", *both).stderr
    assert (
        "siglip2: the one live worker cannot load it, and its weights are not here either" in told
    )
    until(
        lambda: one(engine, embedded, encoder="vivit") == videos,
        "all have what can be made",
        seconds=600,
    )
    until(
        lambda: one(engine, "SELECT bool_and(state = 'pending') FROM reelvec.jobs"),
        "they wait for the rest",
    )
    assert models(desk, expect=1) == {
        "vivit": {
            "wanted": videos,
            "embedded": videos,
            "failed": 0,
            "waiting": 0,
            "waiting_for_weights": 0,
        },
        "siglip2": {
            "wanted": videos,
            "embedded": 0,
            "failed": 0,
            "waiting": videos,
            "waiting_for_weights": videos,
        },
    }
    assert (
        "all of them wait for weights that no live worker has: siglip2"
        in desk.run("reelvec", "status", expect=1).stdout
    )

    desk.run("reelvec", "cancel", "--backbone", "siglip2")
    assert desk.run("reelvec", "status").stdout.startswith(f"DONE  {videos} done, 0 failed")
    assert (
        f"queued 0 · already done {videos}"
        in desk.run("enqueue", "first", "--backbone", "vivit").stderr
    )

    start_worker(REELVEC_MODELS_DIR=str(tmp_path / "both"))
    until(
        lambda: one(engine, "SELECT count(*) FROM reelvec.workers") == 2,
        "the other is ready",
        seconds=120,
    )
    desk.run("enqueue", "first", "second", *both, REELVEC_MODELS_DIR=str(tmp_path / "both"))
    until(
        lambda: one(engine, "SELECT bool_and(state = 'done') FROM reelvec.jobs"),
        "all are done",
        seconds=600,
    )
    assert (
        one(engine, embedded, encoder="siglip2")
        == one(engine, embedded, encoder="vivit")
        == 2 * videos
    )
    assert one(engine, "SELECT max(token) FROM reelvec.jobs") == 2, (
        "each worker took each video once at most"
    )
    assert one(engine, "SELECT count(*) FROM reelvec.attempts") == 0
    assert without.process.poll() is None, "weights that it lacks are no reason to end"
