"""Fetching from a hub-shaped server: what arrives is what the hub states, or nothing does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from sqlalchemy import Engine

from db.errors import ReelvecError, RefusedConfigurationError, UnavailableError, UsageError
from tests import hub as hubs
from tests import ledgering, media
from tests.conftest import Desk, WorkerProcess
from tests.hub import Hub
from tests.s3_server import S3Server
from tests.weights import PUBLISHED, make_models_dir
from workers.backbones import registry
from workers.backbones.base import Weights
from workers.settings import WorkerSettings
from workers.weights import fetch, hub, inventory, lock, shared_folders
from workers.weights.bucket import Bucket
from workers.weights.fetch import Fetched

VIVIT = registry.get("vivit")
CLUTTER = {"README.md": "card", "preprocessor_config.json": "{}", "pytorch_model.bin": "a pickle"}


@pytest.fixture(autouse=True)
def fetched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What packages ship is not fetched, and no part of this."""
    monkeypatch.setattr(inventory, "_packaged", list)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Checkpoints of the published classes, as their repositories hold them."""
    made = make_models_dir(tmp_path_factory.mktemp("published"))
    for name in PUBLISHED:
        for file, content in CLUTTER.items():
            (made / name / file).write_text(content)
    return made


@pytest.fixture
def server(published: Path, monkeypatch) -> Iterator[Hub]:
    """A hub with all four, which this process asks. The library reads the environment when it is
    imported.
    """
    with hubs.running() as made:
        for name in PUBLISHED:
            publish(made, name, published / name)
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield made


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def publish(server: Hub, name: str, folder: Path) -> str:
    spec = registry.get(name)
    return server.add(str(spec.checkpoint), str(spec.ref), folder)


def bring(models: Path | Bucket, *names: str, update: bool = False) -> list[Fetched]:
    return fetch.fetch(fetch.checked(names, allowed_license="any"), models, update=update)


def changed(published: Path, tmp_path: Path, name: str = "vivit") -> Path:
    """The checkpoint with one number changed: another revision."""
    folder = Path(shutil.copytree(published / name, tmp_path / "changed" / name))
    flip(folder / "model.safetensors")
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def load(name: str, models: Path) -> str:
    return registry.module(name).load(Weights("pretrained", models), "cpu").digest


def left(models: Path) -> set[str]:
    """What is there for loading; hidden names are not looked at by it."""
    return {path.name for path in models.iterdir() if not path.name.startswith(".")}


def test_all_of_them_come_verified_and_load_with_the_hub_gone(
    server: Hub, published: Path, models: Path
) -> None:
    done = bring(models, *PUBLISHED)
    assert [(one.backbone, one.downloaded) for one in done] == [(name, True) for name in PUBLISHED]
    assert left(models) == {*PUBLISHED, "models.lock"}
    entries = lock.read(models)
    for one in done:
        spec, entry = registry.get(one.backbone), entries[one.backbone]
        assert one.sha == entry.sha == server.refs[str(spec.checkpoint), str(spec.ref)]
        expected = {"config.json", "model.safetensors"} | (
            {"tokenizer.json"} if spec.has_text else set()
        )
        assert (
            set(entry.files)
            == {path.name for path in (models / one.backbone).iterdir()}
            == expected
        )
        assert (entry.license, one.size_bytes) == (spec.license, entry.size_bytes)
        for file in expected:
            assert (models / one.backbone / file).read_bytes() == (
                published / one.backbone / file
            ).read_bytes()
    assert not any(name.endswith(".bin") for name in server.served() + server.served("HEAD"))
    asked = [path for _, path, _ in server.requests]
    assert len([path for path in asked if path.startswith("/api/")]) == len(PUBLISHED), (
        "each ref is resolved once"
    )
    assert not any("main" in path or "refs" in path for path in asked if "/api/" not in path), (
        "files come by commit"
    )
    server.answers[""] = (500, None)
    for one in done:
        assert (
            load(one.backbone, models) == one.weights_digest == entries[one.backbone].weights_digest
        )


def test_what_is_there_and_whole_is_not_asked_for_again(server: Hub, models: Path) -> None:
    first = bring(models, "vivit")
    server.requests.clear()
    again = bring(models, "vivit")
    assert (again[0].sha, again[0].downloaded) == (first[0].sha, False)
    assert server.requests == []


def test_the_default_is_the_permissive_pair(server: Hub, models: Path) -> None:
    assert [one.backbone for one in bring(models)] == ["vivit", "x-clip"]
    assert set(lock.read(models)) == {"vivit", "x-clip"}
    bring(models, "videomae")
    assert set(lock.read(models)) == {"vivit", "x-clip", "videomae"}, "other entries stay"


def test_shards_come_with_their_index(
    server: Hub, published: Path, models: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "sharded"
    folder.mkdir()
    shutil.copy(published / "vivit" / "config.json", folder)
    tensors = load_file(published / "vivit" / "model.safetensors")
    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {key: file for file, keys in parts.items() for key in keys},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    publish(server, "vivit", folder)
    bring(models, "vivit")
    whole = make_models_dir(tmp_path / "whole", ["vivit"])
    assert load("vivit", models) == load("vivit", whole)


def test_a_damaged_model_comes_again_at_its_own_commit(
    server: Hub, published: Path, models: Path, tmp_path: Path
) -> None:
    """The ref has moved on in the meantime; vectors of the two may not be mixed."""
    (first,) = bring(models, "vivit")
    flip(models / "vivit" / "model.safetensors")
    moved = publish(server, "vivit", changed(published, tmp_path))
    with pytest.raises(
        RefusedConfigurationError,
        match=r"model\.safetensors has SHA-256 .* `reelvec models fetch vivit`",
    ):
        load("vivit", models)
    (again,) = bring(models, "vivit")
    assert (again.sha, again.weights_digest, again.downloaded) == (
        first.sha,
        first.weights_digest,
        True,
    )
    assert load("vivit", models) == first.weights_digest
    (newest,) = bring(models, "vivit", update=True)
    assert (newest.sha, newest.downloaded) == (moved, True)
    assert load("vivit", models) == newest.weights_digest != first.weights_digest
    server.requests.clear()
    assert bring(models, "vivit", update=True)[0].downloaded is False
    assert server.served() == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_byte_that_changed_on_the_way_is_refused(server: Hub, models: Path, name: str) -> None:
    server.flipped.add(name)
    with pytest.raises(
        RefusedConfigurationError,
        match=rf"vivit: {name} came with .*, and the hub states [0-9a-f]{{40}}",
    ):
        bring(models, "vivit")
    assert left(models) == set()
    assert not list(models.glob(".vivit*"))
    server.flipped.clear()
    assert bring(models, "vivit")[0].downloaded


def test_a_file_that_ends_early_is_refused(server: Hub, models: Path) -> None:
    server.short["model.safetensors"] = 1000
    with pytest.raises(
        UnavailableError, match=r"vivit: google/\S+ .*file should be of size \d+ but has size 1000"
    ):
        bring(models, "vivit")
    assert left(models) == set()


def test_a_broken_connection_is_taken_up_where_it_broke(server: Hub, models: Path) -> None:
    server.broken["model.safetensors"] = 1
    (one,) = bring(models, "vivit")
    assert server.served().count("model.safetensors") == 2
    assert load("vivit", models) == one.weights_digest


@pytest.mark.parametrize(
    ("part", "answer", "kind", "told"),
    [
        ("/api/", (401, "GatedRepo"), RefusedConfigurationError, r"HTTP 401.*HF_TOKEN"),
        ("/api/", (403, None), RefusedConfigurationError, r"HTTP 403.*HF_TOKEN"),
        ("/api/", (401, None), RefusedConfigurationError, r"gated, private or missing"),
        ("/api/", (404, "RepoNotFound"), RefusedConfigurationError, r"HTTP 404.*HF_ENDPOINT"),
        (
            "/api/",
            (404, "RevisionNotFound"),
            RefusedConfigurationError,
            r"is not on the hub at http://127\S+ \(HTTP 404",
        ),
        ("/api/", (500, None), UnavailableError, r"500.*try again"),
        ("/resolve/", (401, "GatedRepo"), RefusedConfigurationError, r"HTTP 401.*HF_TOKEN"),
        ("/resolve/", (403, None), RefusedConfigurationError, r"HTTP 403.*HF_TOKEN"),
        ("/cdn/", (403, None), RefusedConfigurationError, r"HTTP 403"),
        ("/config.json", (404, "EntryNotFound"), RefusedConfigurationError, r"HTTP 404"),
    ],
)
def test_every_refusal_has_its_meaning(
    server: Hub,
    models: Path,
    part: str,
    answer: tuple[int, str | None],
    kind: type[ReelvecError],
    told: str,
) -> None:
    server.answers[part] = answer
    with pytest.raises(
        kind, match=rf"vivit: google/vivit-b-16x2-kinetics400 \(\S+\).*{told}"
    ) as refused:
        bring(models, "vivit")
    assert "s3cr3t" not in str(refused.value)
    assert left(models) == set()


def test_a_server_that_is_no_hub_and_a_hub_that_is_not_there(
    models: Path, server: Hub, monkeypatch
) -> None:
    server.refs[str(VIVIT.checkpoint), str(VIVIT.ref)] = "main"
    server.trees[str(VIVIT.checkpoint), "main"] = next(iter(server.trees.values()))
    with pytest.raises(UnavailableError, match="names no commit"):
        bring(models, "vivit")
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:s3cr3t@127.0.0.1:9")
    with pytest.raises(
        UnavailableError, match=r"the hub at http://user:\*\*\*@127\.0\.0\.1:9 does not answer"
    ):
        bring(models, "vivit")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE forbids"):
        bring(models, "vivit")


def test_a_tree_with_a_pickle_alone_is_refused_and_not_read(
    server: Hub, published: Path, models: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(published / "vivit", tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    publish(server, "vivit", folder)
    with pytest.raises(
        RefusedConfigurationError, match=r"only pytorch_model\.bin.*save_pretrained"
    ):
        bring(models, "vivit")
    assert server.served() == []


def test_a_configuration_of_absurd_size_is_not_read(server: Hub, models: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "MAX_JSON_BYTES", 100)
    with pytest.raises(
        RefusedConfigurationError, match=r"config\.json has \d+ bytes; at most 100 are read"
    ):
        bring(models, "vivit")
    assert server.served() == []


def test_a_full_disk_is_seen_before_the_download(server: Hub, models: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        shared_folders.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000)
    )
    with pytest.raises(
        RefusedConfigurationError, match=r"MB have to go to .* has 0\.0 MB free: .*--to"
    ):
        bring(models, "vivit", "x-clip")
    assert server.served() == []


def test_non_commercial_weights_are_refused_before_any_request(server: Hub, models: Path) -> None:
    with pytest.raises(RefusedConfigurationError, match="videomae: its weights are CC-BY-NC"):
        fetch.checked(["vivit", "videomae"], allowed_license="commercial")
    with pytest.raises(UsageError, match="probe has no weights"):
        fetch.checked(["probe"], allowed_license="any")
    assert server.requests == []


def test_files_put_there_by_hand_are_not_lost(server: Hub, published: Path, models: Path) -> None:
    make_models_dir(models, ["vivit"])
    before = (models / "vivit" / "model.safetensors").read_bytes()
    (one,) = bring(models, "vivit")
    assert one.downloaded is False, "they are the commit's own files: only written down"
    assert server.served() == []
    assert lock.read(models)["vivit"].sha == one.sha
    (models / "models.lock").unlink()
    flip(models / "vivit" / "model.safetensors")
    with pytest.raises(UsageError, match="put there by hand and would be lost"):
        bring(models, "vivit")
    assert (models / "vivit" / "model.safetensors").read_bytes() != before


def test_an_entry_of_an_older_version_is_fetched_anew(server: Hub, models: Path) -> None:
    bring(models, "vivit")
    content = json.loads((models / "models.lock").read_text())
    content["vivit"]["ref"] = "refs/pr/1"
    (models / "models.lock").write_text(json.dumps(content))
    with pytest.raises(
        RefusedConfigurationError, match=r"has google/\S+ \(refs/pr/1\), and this version needs"
    ):
        load("vivit", models)
    assert bring(models, "vivit")[0].downloaded
    assert load("vivit", models)


def test_what_a_killed_fetch_left_is_used_or_cleared_but_never_loaded(
    server: Hub, published: Path, models: Path, tmp_path: Path
) -> None:
    server.answers["/cdn/"] = (403, None)
    with pytest.raises(RefusedConfigurationError):
        bring(models, "vivit")
    assert left(models) == set()
    (half,) = models.glob(".vivit.*.new")
    server.answers.clear()
    server.requests.clear()
    bring(models, "vivit")
    assert server.served() == ["model.safetensors"] * 1, "config.json was there"
    assert not list(models.glob(".vivit*"))
    half.mkdir()
    publish(server, "vivit", changed(published, tmp_path))
    bring(models, "vivit", update=True)
    assert not half.exists(), "of another commit"


def test_the_list_says_what_is_there(server: Hub, models: Path) -> None:
    bring(models, "vivit", "videomae")
    make_models_dir(models, ["timesformer"])
    missing = dict.fromkeys(("x-clip", "vjepa2", "siglip2"), "missing")
    states = {one.backbone: one.state for one in inventory.inventory(models, verify=False)}
    assert states == {
        "vivit": "fetched",
        "timesformer": "by hand",
        "videomae": "fetched",
        **missing,
    }
    verified = {one.backbone: one for one in inventory.inventory(models, verify=True)}
    assert all(one.problem is None for one in verified.values())
    assert verified["timesformer"].weights_digest == load("timesformer", models)
    flip(models / "vivit" / "model.safetensors")
    (models / "videomae" / "config.json").write_bytes(b"{}")
    (models / "timesformer" / "model.safetensors").write_bytes(b"PK")
    quick = {one.backbone: one.state for one in inventory.inventory(models, verify=False)}
    assert quick == {"vivit": "fetched", "timesformer": "by hand", "videomae": "damaged", **missing}
    problems = {one.backbone: one.problem for one in inventory.inventory(models, verify=True)}
    assert "model.safetensors has SHA-256" in str(problems["vivit"])
    assert "config.json has 2 bytes" in str(problems["videomae"])
    assert "no whole safetensors file" in str(problems["timesformer"])
    assert {one.state for one in inventory.inventory(None, verify=True)} == {"missing"}


def test_a_lock_with_another_digest_than_the_weights_is_seen(server: Hub, models: Path) -> None:
    bring(models, "vivit")
    content = json.loads((models / "models.lock").read_text())
    content["vivit"]["weights_digest"] = "0" * 64
    (models / "models.lock").write_text(json.dumps(content))
    with pytest.raises(
        RefusedConfigurationError, match=r"has weights [0-9a-f]{64}, not 0{64} as models\.lock says"
    ):
        load("vivit", models)
    assert "not 000" in str(inventory.inventory(models, verify=True)[0].problem)


class TestBucket:
    """A models folder in S3."""

    @pytest.fixture
    def data_dir(self, tmp_path: Path) -> Path:
        return tmp_path / "data"

    @pytest.fixture
    def bucket(self, s3: S3Server, data_dir: Path, monkeypatch) -> Bucket:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("REELVEC_DATA_DIR", str(data_dir))
        return Bucket(f"s3://{s3.bucket()}/our models", WorkerSettings())

    def test_what_was_fetched_there_is_loaded_from_there(
        self, server: Hub, bucket: Bucket, data_dir: Path, published: Path
    ) -> None:
        assert registry.default_backbones(bucket) == ["efficientnet"], "no model of the bucket's"
        done = bring(bucket, "x-clip", "timesformer")
        assert [one.where for one in done] == [f"{bucket}/x-clip", f"{bucket}/timesformer"]
        assert registry.default_backbones(bucket) == ["timesformer", "x-clip"]
        assert {one.state for one in inventory.inventory(bucket, verify=True)} == {
            "fetched",
            "missing",
        }
        server.requests.clear()
        assert not any(one.downloaded for one in bring(bucket, "x-clip", "timesformer"))
        assert server.requests == []
        shutil.rmtree(data_dir)  # another machine
        for one in done:
            folder = bucket.local_copy(one.backbone)
            assert folder == data_dir / "models-cache" / one.weights_digest
            assert load(one.backbone, folder) == one.weights_digest
        assert server.requests == []

    def test_a_copy_is_downloaded_once_and_again_when_it_is_damaged(
        self, server: Hub, bucket: Bucket, monkeypatch
    ) -> None:
        bring(bucket, "vivit")
        downloads = []
        monkeypatch.setattr(Bucket, "download", _counted(Bucket.download, downloads))
        folder = bucket.local_copy("vivit")
        assert downloads == [], "what was fetched here stayed here"
        flip(folder / "vivit" / "model.safetensors")
        assert bucket.local_copy("vivit") == folder
        assert downloads == ["vivit"]
        assert load("vivit", folder)
        assert bucket.local_copy("vivit") == folder
        assert downloads == ["vivit"]
        assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == [
            folder.name
        ]

    def test_objects_that_were_replaced_are_refused(
        self, server: Hub, bucket: Bucket, s3: S3Server, data_dir
    ) -> None:
        bring(bucket, "vivit")
        name, _, prefix = str(bucket).removeprefix("s3://").partition("/")
        key = f"{prefix}/vivit/model.safetensors"
        with s3.client.get_object(name, key) as response:
            content = bytearray(response.data)
        content[-5] ^= 1
        s3.put(name, key, bytes(content))
        assert bucket.local_copy("vivit"), "the copy that this machine has is whole"
        assert inventory.inventory(bucket, verify=False)[0].state == "fetched"
        assert f"{bucket}/vivit/model.safetensors has SHA-256" in str(
            inventory.inventory(bucket, verify=True)[0].problem
        )
        shutil.rmtree(data_dir)
        with pytest.raises(
            RefusedConfigurationError, match=r"has SHA-256 .*the bucket holds other files"
        ):
            bucket.local_copy("vivit")
        assert not [path for path in (data_dir / "models-cache").iterdir() if path.is_dir()]
        s3.put(name, key, bytes(content[:-100]))
        assert inventory.inventory(bucket, verify=False)[0].state == "damaged"
        assert bring(bucket, "vivit")[0].downloaded
        assert load("vivit", bucket.local_copy("vivit"))

    def test_what_is_not_listed_or_not_allowed_is_told(
        self, server: Hub, bucket: Bucket, monkeypatch
    ) -> None:
        with pytest.raises(
            RefusedConfigurationError,
            match=rf"vivit: {bucket}/models\.lock does not list it; .* --to {bucket}",
        ):
            bucket.local_copy("vivit")
        with pytest.raises(
            RefusedConfigurationError, match=r"models in s3://missing-bucket: no_bucket"
        ):
            Bucket("s3://missing-bucket", bucket.settings).lock()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(
            RefusedConfigurationError, match=rf"models in {bucket}: bad_credentials"
        ):
            bucket.lock()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        with pytest.raises(UnavailableError, match=rf"models in {bucket}: unreachable"):
            bucket.lock()


def _counted(method, calls: list[str]):
    def counting(self: Bucket, backbone: str, *rest) -> None:
        calls.append(backbone)
        method(self, backbone, *rest)

    return counting


def test_two_workers_of_a_node_load_from_a_bucket(
    desk: Desk,
    server: Hub,
    s3: S3Server,
    tmp_path: Path,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
) -> None:
    prefix = f"s3://{s3.bucket()}/models"
    variables = {
        **s3.environment,
        "REELVEC_MODELS_DIR": prefix,
        "REELVEC_DATA_DIR": str(tmp_path / "node"),
    }
    at_the_desk = {**variables, "REELVEC_DATA_DIR": str(tmp_path / "desk")}
    done = desk.run(
        "reelvec", "models", "fetch", "x-clip", "--json", HF_ENDPOINT=server.url, **at_the_desk
    )
    fetched = json.loads(done.stdout)
    assert fetched["where"] == f"{prefix}/x-clip"
    for name in ("a", "b"):
        media.make_clip(tmp_path / f"{name}.mp4", seconds=1)
    (tmp_path / "pets.txt").write_text("a cat\na dog\n", encoding="utf-8")
    chosen = ("--labels", "pets.txt")
    desk.run("enqueue", "a.mp4", "b.mp4", *chosen, **at_the_desk)
    server.requests.clear()
    workers = [start_worker(**variables) for _ in range(2)]
    desk.run("enqueue", *chosen, "--wait", **at_the_desk)
    assert (
        ledgering.one(engine, "SELECT weights_digest FROM reelvec.encoders")
        == fetched["weights_digest"]
    )
    assert ledgering.one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 2
    for worker in workers:
        assert worker.stop() == 0, worker.log()
    assert sum(worker.log().count(f"from {prefix}") for worker in workers) == 1, "downloaded once"
    copies = tmp_path / "node" / "models-cache"
    assert [path.name for path in copies.iterdir() if path.is_dir()] == [fetched["weights_digest"]]
    rows = desk.run(
        "reelvec", "models", "list", "--json", "--verify", **variables
    ).stdout.splitlines()
    assert {row["backbone"]: row["state"] for row in map(json.loads, rows)}["x-clip"] == "fetched"
    assert server.requests == []
    embed = ("reelvec", "embed", "a.mp4", "--backbone", "x-clip")
    told = desk.run(*embed, expect=78, **{**variables, "AWS_SECRET_ACCESS_KEY": "wrong"}).stderr
    assert f"models in {prefix}: bad_credentials" in told
    told = desk.run(
        *embed, expect=69, **{**variables, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    ).stderr
    assert f"models in {prefix}: unreachable" in told
