"""Weights as a user meets them: fetched once, then used by every command without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests import hub as hubs
from tests import media
from tests.conftest import Desk, WorkerProcess, clean_environment
from tests.hub import Hub
from tests.ledgering import one
from tests.weights import PUBLISHED, make_models_dir
from workers.backbones import registry

Start = Callable[..., WorkerProcess]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return make_models_dir(tmp_path_factory.mktemp("published"))


@pytest.fixture
def hub(published: Path) -> Iterator[Hub]:
    with hubs.running() as made:
        for name in PUBLISHED:
            publish(made, name, published / name)
        yield made


def publish(hub: Hub, name: str, folder: Path) -> str:
    spec = registry.get(name)
    return hub.add(str(spec.checkpoint), str(spec.ref), folder)


@pytest.fixture
def alone(tmp_path: Path, hub: Hub) -> Desk:
    """A user with neither database nor broker nor a models folder."""
    facts = {
        "REELVEC_DATA_DIR": str(tmp_path / "data"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
    }
    return Desk({**clean_environment(), **facts}, tmp_path)


def listed(desk: Desk, *options: str, expect: int = 0, **variables: str) -> dict[str, dict]:
    done = desk.run("reelvec", "models", "list", "--json", *options, expect=expect, **variables)
    return {row["backbone"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_fetch_then_everything_works_without_the_hub_and_without_a_variable(
    alone: Desk, hub: Hub, tmp_path: Path
) -> None:
    there = listed(alone)
    assert {there[name]["state"] for name in PUBLISHED} == {"missing"}
    done = alone.run("reelvec", "models", "fetch", *PUBLISHED, "--json", HF_TOKEN="hf_secret")
    fetched = {row["backbone"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(fetched) == set(PUBLISHED)
    assert (
        "timesformer: facebook/timesformer-base-finetuned-k400 (refs/pr/5), license CC-BY-NC-4.0: "
        "non-comm" in done.stderr
    )
    assert "vivit: google/vivit-b-16x2-kinetics400 (refs/pr/3), license MIT\n" in done.stderr
    assert fetched["vivit"]["where"] == str(tmp_path / "data" / "models" / "vivit")
    assert not list((tmp_path / "hf").rglob("*.safetensors")), "no second copy"
    for _, path, token in hub.requests:
        assert path.startswith(("/api/models/", "/cdn/")) or "/resolve/" in path, (
            "nothing else is asked or told"
        )
        assert token == (None if path.startswith("/cdn/") else "Bearer hf_secret")
    assert "hf_secret" not in done.stderr + done.stdout

    shown = alone.run("reelvec", "models", "list")
    table = shown.stdout.splitlines()
    assert "probe: has no weights and needs none; it is for tests" in shown.stderr
    assert table[0].split("\t")[:3] == ["backbone", "checkpoint", "ref"]
    row = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    assert row["commit"] == fetched["vivit"]["sha"][:12]
    assert row["weights"] == fetched["vivit"]["weights_digest"][:12]
    assert (row["state"], row["where"]) == ("fetched", fetched["vivit"]["where"])

    hub.requests.clear()
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    embedded = json.loads(alone.run("reelvec", "embed", "a.mp4", "--json", anew=True).stdout)
    assert set(embedded["shapes"]) == set(PUBLISHED), "what was fetched is the default"
    assert hub.requests == []


def test_a_damaged_file_is_found_and_named(alone: Desk, hub: Hub, tmp_path: Path) -> None:
    alone.run("reelvec", "models", "fetch", "vivit", "--to", "elsewhere")
    variables = {"REELVEC_MODELS_DIR": "elsewhere"}
    alone.run("reelvec", "models", "list", "--verify", **variables)
    weights = tmp_path / "elsewhere" / "vivit" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    told = alone.run("reelvec", "models", "list", "--verify", expect=1, **variables).stderr
    assert "elsewhere/vivit/model.safetensors has SHA-256" in told
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    told = alone.run("reelvec", "embed", "a.mp4", expect=78, **variables).stderr
    assert "elsewhere/vivit/model.safetensors has SHA-256" in told
    assert "`reelvec models fetch vivit`" in told


def test_a_fetch_that_is_killed_leaves_nothing_that_loads(
    alone: Desk, hub: Hub, tmp_path: Path
) -> None:
    hub.held = "model.safetensors"
    command = [str(Path(sys.executable).with_name("reelvec")), "models", "fetch", "vivit"]
    child = subprocess.Popen(command, env=alone.environment, cwd=tmp_path, stderr=subprocess.PIPE)
    with child:
        assert hub.halfway.wait(30)
        child.kill()
    assert listed(alone, "--verify")["vivit"]["state"] == "missing"
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    told = alone.run("reelvec", "embed", "a.mp4", "--backbone", "vivit", expect=78).stderr
    assert "vivit does not exist; run `reelvec models fetch vivit`" in told
    hub.held = None
    alone.run("reelvec", "models", "fetch", "vivit")
    assert listed(alone, "--verify")["vivit"]["state"] == "fetched"
    models = tmp_path / "data" / "models"
    assert {path.name for path in models.iterdir()} == {"vivit", "models.lock", ".fetch.lock"}


@pytest.mark.parametrize(
    ("arguments", "variables", "exit_code", "told"),
    [
        (
            ["vivit", "videomae"],
            {"REELVEC_LICENSE": "commercial"},
            78,
            "videomae: its weights are CC-BY-NC-4.0",
        ),
        (["vivitt"], {}, 2, "did you mean vivit"),
        (["probe"], {}, 2, "no weights to fetch"),
        (["--to", "gs://bucket/x"], {}, 2, "s3://bucket/prefix"),
        (["--to", "file.txt"], {}, 78, "cannot be made"),
        ([], {"HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE"),
        ([], {"HF_ENDPOINT": "http://127.0.0.1:9"}, 69, "the hub at http://127.0.0.1:9"),
    ],
)
def test_mistakes_are_answered_before_any_request(
    alone: Desk,
    hub: Hub,
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    exit_code: int,
    told: str,
) -> None:
    (tmp_path / "file.txt").touch()
    assert (
        told
        in alone.run("reelvec", "models", "fetch", *arguments, expect=exit_code, **variables).stderr
    )
    assert hub.requests == []


def test_a_worker_with_another_commit_is_refused_and_the_locked_one_brings_it_back(
    desk: Desk, hub: Hub, published: Path, tmp_path: Path, start_worker: Start, engine: Engine
) -> None:
    """The ref moved between two machines' fetches: the second one's vectors would be another
    space.
    """
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    media.make_clip(tmp_path / "b.mp4", seconds=1)

    def fetch(to: str) -> dict[str, str]:
        done = desk.run(
            "reelvec", "models", "fetch", "vivit", "--to", to, "--json", HF_ENDPOINT=hub.url
        )
        return dict(json.loads(done.stdout))

    first = fetch("first")
    worker = start_worker(REELVEC_MODELS_DIR="first")
    desk.run("enqueue", "a.mp4", "--wait", REELVEC_MODELS_DIR="first")
    worker.stop()
    assert one(engine, "SELECT weights_digest FROM reelvec.encoders") == first["weights_digest"]

    moved = Path(shutil.copytree(published / "vivit", tmp_path / "moved"))
    content = bytearray((moved / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (moved / "model.safetensors").write_bytes(content)
    publish(hub, "vivit", moved)
    second = fetch("second")
    assert second["sha"] != first["sha"]
    desk.run("enqueue", "b.mp4", REELVEC_MODELS_DIR="second")
    other = start_worker(REELVEC_MODELS_DIR="second")
    assert other.process.wait(timeout=60) == 78
    log = other.log()
    assert first["weights_digest"] in log
    assert second["weights_digest"] in log
    assert "may not be mixed: give this worker the bound weights" in log
    assert "Traceback" not in log
    assert (
        one(engine, "SELECT state FROM reelvec.jobs ORDER BY video_id DESC LIMIT 1") == "queued"
    ), "left for another"
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 1

    # with the first machine's models.lock the same command brings the same commit
    (tmp_path / "third").mkdir()
    shutil.copy(tmp_path / "first" / "models.lock", tmp_path / "third")
    assert fetch("third") == {**first, "where": "third/vivit"}
