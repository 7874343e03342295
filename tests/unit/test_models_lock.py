"""models.lock: written and read without loss, and what it says is held against the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from db.errors import RefusedConfigurationError
from workers.backbones import registry
from workers.weights import lock
from workers.weights.lock import Entry, FileFacts

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}
SPEC = registry.get("vivit")


def facts(content: bytes) -> FileFacts:
    return FileFacts(len(content), hashlib.sha256(content).hexdigest())


def entry_of(files: dict[str, bytes] = FILES, *, checkpoint: str = str(SPEC.checkpoint)) -> Entry:
    facts_by_name = {name: facts(content) for name, content in files.items()}
    return Entry(checkpoint, str(SPEC.ref), "a" * 40, "MIT", "b" * 64, facts_by_name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "vivit"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    return made


def test_what_is_written_is_read_again_sorted(tmp_path: Path) -> None:
    assert lock.read(tmp_path) == {}
    entries = {"x-clip": entry_of(), "vivit": entry_of()}
    lock.write(tmp_path, entries)
    assert lock.read(tmp_path) == entries
    content = json.loads((tmp_path / "models.lock").read_text())
    assert list(content) == ["vivit", "x-clip"]
    assert content["vivit"]["files"]["config.json"] == {
        "sha256": facts(b"{}").sha256,
        "size_bytes": 2,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock"]
    assert entries["vivit"].size_bytes == 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entry: entry.pop("sha"), "sha"),
        (lambda entry: entry.update(sha="main"), "'main' is no digest"),
        (lambda entry: entry.update(weights_digest="../../etc"), "no digest"),
        (
            lambda entry: entry["files"].update({"../config.json": entry["files"]["config.json"]}),
            "no file of a model",
        ),
        (
            lambda entry: entry["files"].update(
                {"pytorch_model.bin": entry["files"]["config.json"]}
            ),
            "no file of a model",
        ),
        (lambda entry: entry["files"].pop("config.json"), "without config.json"),
        (lambda entry: entry["files"]["config.json"].update(size_bytes="large"), "large"),
    ],
)
def test_a_lock_that_is_none_is_refused_with_its_place(tmp_path: Path, change, told: str) -> None:
    content = json.loads(lock.dump({"vivit": entry_of()}))
    change(content["vivit"])
    (tmp_path / "models.lock").write_text(json.dumps(content))
    with pytest.raises(
        RefusedConfigurationError, match=rf"models\.lock is no models\.lock .*{told}"
    ):
        lock.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"vivit": 1}', b"\xff"])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedConfigurationError, match=r"here is no models\.lock"):
        lock.parse(content, "here")


def test_files_as_they_were_written_are_not_damaged(folder: Path) -> None:
    (folder / "README.md").write_text("not read by anything")
    assert lock.damage(folder, entry_of()) is None
    lock.verify(SPEC, folder, entry_of())


def test_a_changed_byte_is_named_with_both_digests(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weighty")
    assert lock.damage(folder, entry_of(), sizes_only=True) is None
    with pytest.raises(RefusedConfigurationError) as refused:
        lock.verify(SPEC, folder, entry_of())
    for part in (
        "vivit: ",
        str(folder / "model.safetensors"),
        facts(b"weights").sha256,
        facts(b"weighty").sha256,
        "`reelvec models fetch vivit`",
    ):
        assert part in str(refused.value)


def test_a_file_that_changes_again_is_read_again(folder: Path) -> None:
    entry = entry_of()
    for content, whole in ((b"weighty", False), (b"weights", True), (b"weighty", False)):
        (folder / "model.safetensors").write_bytes(content)
        assert (lock.damage(folder, entry) is None) is whole


def test_a_short_and_a_missing_file_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weight")
    assert (
        lock.damage(folder, entry_of(), sizes_only=True)
        == f"{folder}/model.safetensors has 6 bytes, not 7"
    )
    (folder / "config.json").unlink()
    assert lock.damage(folder, entry_of()) == f"{folder}/config.json does not exist"


@pytest.mark.parametrize(
    "name", ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "tokenizer.json"]
)
def test_a_file_that_loading_would_take_instead_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert lock.damage(folder, entry_of()) == f"{folder}/{name} belongs to another model"


def test_an_entry_of_another_checkpoint_is_refused(folder: Path) -> None:
    with pytest.raises(
        RefusedConfigurationError,
        match=r"has other/vivit \(refs/pr/3\), and this version needs google/vi",
    ):
        lock.verify(SPEC, folder, entry_of(checkpoint="other/vivit"))
