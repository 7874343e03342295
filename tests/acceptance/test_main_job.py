"""The main job, end to end: files through Redis, a Celery worker and the real backbones into
Postgres.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from tests import media
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import probe_vectors, stored_vectors
from tests.ledgering import one
from tests.weights import NOTEBOOK, make_models_dir

Start = Callable[..., WorkerProcess]


def backbones(*names: str) -> list[str]:
    return [word for name in names for word in ("--backbone", name)]


def rows(desk: Desk, sql: str) -> list[list[str]]:
    return [
        line.split("\t") for line in desk.run("reelvec", "db", "sql", sql).stdout.splitlines()[1:]
    ]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Every codec and container, and every way a file can be bad."""
    data = tmp_path / "data"
    for name in ("48.0_films", "46.0_animals"):
        (data / name).mkdir(parents=True)
    films, animals = data / "48.0_films", data / "46.0_animals"
    media.make_clip(films / "h264.mp4", seed=1, seconds=5)
    media.make_clip(films / "hevc.mkv", seed=2, codec="libx265", seconds=2)
    media.make_clip(animals / "vp9.webm", seed=3, codec="libvpx-vp9", seconds=2)
    media.make_clip(animals / "av1.mp4", seed=4, codec="libsvtav1", seconds=2)
    media.truncated(films / "truncated.mp4")
    media.cut_after_moov(films / "cut.mp4")
    media.html(animals / "html.mp4")
    media.audio_only(animals / "audio.mp4")
    media.empty(animals / "empty.mp4")
    return data


def test_files_become_rows_or_reasons(
    desk: Desk, catalogue: Path, start_worker: Start, engine: Engine
) -> None:
    start_worker()
    chosen = [*backbones(*NOTEBOOK, "probe"), "--weights", "random-tiny"]
    films = desk.run("enqueue", "data", "--category", "films", *chosen, "--wait", expect=3)
    assert "DONE 2 done, 2 failed" in films.stderr
    desk.run("enqueue", "-", *chosen, "--wait", expect=3, stdin="data/46.0_animals/missing.mp4\n")
    desk.run("enqueue", "data", *chosen, "--wait", expect=3)

    failed = json.loads(desk.run("reelvec", "status", "--failed", "--json").stdout)
    codes = {row["uri"].rsplit("/", 1)[1]: row["error_code"] for row in failed}
    assert codes == {
        "truncated.mp4": "truncated",
        "cut.mp4": "truncated",
        "html.mp4": "not_media",
        "audio.mp4": "no_video",
        "empty.mp4": "empty_file",
        "missing.mp4": "not_found",
    }
    assert all(len(row["error"]) > 10 for row in failed), "a reason, not only a code"

    dims = rows(desk, "SELECT e.backbone, count(*), min(vector_dims(embedding)), max(vector_dims(embedding))"
                      " FROM video_embeddings JOIN encoders e USING (encoder_id) GROUP BY 1")  # fmt: skip
    assert {backbone: int(count) for backbone, count, _, _ in dims} == dict.fromkeys(
        (*NOTEBOOK, "probe"), 4
    )
    assert all(low == high for _, _, low, high in dims)
    assert one(engine, "SELECT count(*) FROM reelvec.scores") == 12, "three label sets, four videos"
    assert one(engine, "SELECT count(*) FROM reelvec.strips WHERE etag IS NOT NULL") == 4
    assert one(engine, "SELECT max(abs(s - 1)) < 1e-4 FROM (SELECT (SELECT sum(p) FROM unnest(probabilities) p) s"
                       " FROM reelvec.scores) q") is True  # fmt: skip
    facts = rows(desk, "SELECT codec, width_px, height_px, round(fps)::int, round(duration_seconds)::int FROM videos"
                       " JOIN jobs USING (video_id) WHERE state = 'done' ORDER BY 1")  # fmt: skip
    assert facts == [
        ["av1", "320", "180", "25", "2"], ["h264", "320", "180", "25", "5"],
        ["hevc", "320", "180", "25", "2"], ["vp9", "320", "180", "25", "2"],
    ]  # fmt: skip
    stages = (
        "SELECT bool_and(bytes_read > 0 AND decode_seconds > 0 AND device_seconds > 0) FROM "
        "reelvec.jobs"
    )
    assert one(engine, f"{stages} WHERE state = 'done'") is True
    good = [catalogue / path for path in ("48.0_films/h264.mp4", "46.0_animals/av1.mp4")]
    stored = stored_vectors(engine, "probe-random-tiny")
    for uri, vector in probe_vectors(good).items():
        np.testing.assert_array_equal(stored[uri], vector)
    while (
        one(engine, "SELECT videos_done + videos_failed FROM reelvec.workers") != 10
    ):  # it says so with its next beat
        time.sleep(0.1)
    status = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert status["line"].startswith("DONE  4 done, 6 failed")
    (told,) = status["fleet"]["workers"]
    assert (told["name"], told["videos_done"], told["videos_failed"]) == ("worker0", 4, 6), (
        "as celery -n named it"
    )
    assert told["last_error"].split(":")[0] in codes.values()
    assert min(told["last_error_seconds"], told["claimed_seconds"], told["videos_per_second"]) > 0


def test_a_backbone_added_later_is_the_only_one_computed(
    desk: Desk, tmp_path: Path, start_worker: Start, engine: Engine
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    start_worker()
    desk.run("enqueue", "a.mp4", "--backbone", "probe", "--wait")
    made = one(engine, "SELECT created_at FROM reelvec.video_embeddings")
    desk.run("enqueue", "--backbone", "vivit", "--weights", "random-tiny", "--wait")
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 2
    assert one(engine, "SELECT min(created_at) FROM reelvec.video_embeddings") == made, (
        "the old row was left alone"
    )
    assert one(engine, "SELECT count(*) FROM reelvec.vivit_random_tiny") == 1


def test_the_database_holds_what_embed_writes(
    desk: Desk, tmp_path: Path, start_worker: Start, engine: Engine
) -> None:
    """Published-class checkpoints of all four, through both ways; and the same labels, which came
    after the video in another order.
    """
    make_models_dir(tmp_path / "models", NOTEBOOK)
    media.make_clip(tmp_path / "a.mp4", seconds=3, seed=5)
    (tmp_path / "pets.txt").write_text("a cat\na dog\na parrot\n", encoding="utf-8")
    variables = {"REELVEC_MODELS_DIR": str(tmp_path / "models")}
    start_worker(**variables)
    queued = desk.run(
        "enqueue", "a.mp4", "--labels", "pets.txt", "--keep-context", "--wait", **variables
    )
    assert "context: 0.6 MB a video, 0.0 GB of Postgres for the 1 queued" in queued.stderr
    (tmp_path / "later.txt").write_text("a parrot\na dog\na cat\n", encoding="utf-8")
    tagged = desk.run("reelvec", "tag", "--labels", "later.txt", **variables)
    assert tagged.stderr.splitlines()[-1] == "x-clip/later: 1 video tagged"
    done = desk.run(
        "reelvec", "embed", "a.mp4", "--out", "a.npz", "--labels", "pets.txt", "--json", **variables
    )
    assert set(json.loads(done.stdout)["shapes"]) == set(NOTEBOOK)
    with np.load(tmp_path / "a.npz") as made:
        for name in NOTEBOOK:
            np.testing.assert_allclose(
                made[f"{name}/pooled"], made[f"{name}/windows"].mean(axis=0), atol=1e-5
            )
            (stored,) = stored_vectors(engine, name).values()
            # float16 keeps eleven bits
            np.testing.assert_allclose(stored, made[f"{name}/pooled"], atol=1e-5, rtol=2**-11)
        assert made["x-clip/probabilities"].shape == (3, 3)
        assert list(made["x-clip/prompts"]) == ["a cat", "a dog", "a parrot"]
        assert made["frame_indices"].shape == made["pts_seconds"].shape == (96,)
        window = "SELECT window_probabilities FROM reelvec.scores JOIN reelvec.taggers USING (tagger_id) WHERE tagger = :name"
        stored, later = (
            np.array(one(engine, window, name=f"x-clip/{name}")) for name in ("pets", "later")
        )
        np.testing.assert_allclose(stored, made["x-clip/probabilities"], atol=1e-5)
        np.testing.assert_allclose(later[:, ::-1], stored, atol=1e-4)


def test_weights_that_are_missing_stop_nobody_who_works(
    desk: Desk, tmp_path: Path, start_worker: Start
) -> None:
    """A worker that is up goes on, and status says what is waited for; one that could do nothing is
    refused at once.
    """
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    (tmp_path / "empty").mkdir()
    variables = {"REELVEC_MODELS_DIR": str(tmp_path / "empty")}
    worker = start_worker(**variables)
    desk.run("enqueue", "a.mp4", "--backbone", "probe", "--wait")
    told = desk.run("enqueue", "--backbone", "vivit", **variables).stderr
    assert "vivit: the one live worker cannot load it" in told
    assert "reelvec cancel --backbone vivit" in told
    assert (
        "wait for weights that no live worker has: vivit"
        in desk.run("reelvec", "status", expect=1).stdout
    )
    other = start_worker(**variables)
    assert other.process.wait(timeout=60) == 78
    assert "reelvec models fetch vivit" in other.log()
    assert worker.process.poll() is None
    assert rows(desk, "SELECT state, attempts FROM jobs") == [["pending", "0"]]
    desk.run("reelvec", "cancel", "--backbone", "vivit")
    assert rows(desk, "SELECT state FROM jobs") == [["done"]]
