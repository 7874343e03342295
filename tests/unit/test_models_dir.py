"""Where weights are, which files of a tree are needed, and folders that are filled by one process
at a time.
"""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

import pytest

from db.errors import RefusedConfigurationError, UsageError
from db.stack import local_stack
from workers.backbones import registry
from workers.settings import WorkerSettings
from workers.weights import bucket, hub, models_dir, shared_folders
from workers.weights.bucket import Bucket

SETTINGS = WorkerSettings()
TOKENIZER = {"tokenizer.json", "vocab.json", "merges.txt"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models", Path("models")),
        ("/a/models", Path("/a/models")),
        ("~/models", Path.home() / "models"),
        ("s3://my-bucket", "s3://my-bucket"),
        ("s3://my-bucket/", "s3://my-bucket"),
        ("s3://my-bucket/a b/c/", "s3://my-bucket/a b/c"),
    ],
)
def test_a_folder_or_a_prefix(text: str, expected: Path | str) -> None:
    found = models_dir.parse(text, SETTINGS, "--to")
    assert (found.uri if isinstance(found, Bucket) else found) == expected


@pytest.mark.parametrize(
    "text", ["s3://", "s3:bucket", "s3://B/x", "https://host/x", "gs://bucket/x"]
)
def test_another_address_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=rf"--to='{text}': .*s3://bucket"):
        models_dir.parse(text, SETTINGS, "--to")


def test_unset_means_the_local_stacks_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
    assert models_dir.resolve(WorkerSettings()) == tmp_path / "models"
    monkeypatch.setenv("REELVEC_MODELS_DIR", "s3://bucket/prefix")
    assert str(models_dir.resolve(WorkerSettings())) == "s3://bucket/prefix"


def test_a_user_without_any_folder_has_none(monkeypatch) -> None:
    def no_home(*_: object) -> Path:
        raise UsageError("no folder for the local stack")

    monkeypatch.setattr(local_stack, "default_data_dir", no_home)
    assert models_dir.resolve(WorkerSettings()) is None
    with pytest.raises(
        RefusedConfigurationError, match="need a folder for copies: no folder for the local stack"
    ):
        bucket.cache_dir()


@pytest.mark.parametrize(
    ("backbone", "names", "expected"),
    [
        (
            "vivit",
            {
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "preprocessor_config.json",
                "README.md",
            },
            ["config.json", "model.safetensors"],
        ),
        (
            "vivit",
            {"config.json", "model.safetensors.index.json"}
            | {f"model-0000{part}-of-00002.safetensors" for part in (2, 1)},
            [
                "config.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
        ),
        (
            "x-clip",
            {"config.json", "model.safetensors"} | TOKENIZER,
            ["config.json", "model.safetensors", "tokenizer.json"],
        ),
        (
            "x-clip",
            {"config.json", "model.safetensors"} | TOKENIZER - {"tokenizer.json"},
            ["config.json", "model.safetensors", "vocab.json", "merges.txt"],
        ),
        (
            "siglip2",
            {
                "config.json",
                "model.safetensors",
                "tokenizer.model",
                "tokenizer_config.json",
                "tokenizer.json",
            },
            ["config.json", "model.safetensors", "tokenizer.json"],
        ),
    ],
)
def test_only_what_loading_needs_is_fetched(
    backbone: str, names: set[str], expected: list[str]
) -> None:
    assert hub.needed(registry.get(backbone), names) == expected


@pytest.mark.parametrize(
    ("backbone", "names", "told"),
    [
        (
            "vivit",
            {"config.json", "pytorch_model.bin"},
            r"only pytorch_model\.bin.* run code.*save_pretrained",
        ),
        ("vivit", {"config.json"}, r"has no model\.safetensors.*REELVEC_MODELS_DIR as vivit/"),
        ("vivit", {"model.safetensors"}, r"has no config\.json"),
        ("x-clip", {"config.json", "model.safetensors", "vocab.json"}, r"has no merges\.txt"),
        (
            "siglip2",
            {"config.json", "model.safetensors", "vocab.json", "merges.txt"},
            r"has no tokenizer\.json",
        ),
    ],
)
def test_a_tree_that_cannot_be_loaded_is_refused(backbone: str, names: set[str], told: str) -> None:
    with pytest.raises(RefusedConfigurationError, match=rf"{backbone}: .*{told}"):
        hub.needed(registry.get(backbone), names)


def test_git_names_a_file_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert hub.git_blob_sha1(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_folder_is_put_in_place_of_another(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / ".new").mkdir()
        (tmp_path / ".new" / "file").write_text(str(number))
        shared_folders.put_in_place(tmp_path / ".new", tmp_path / "final")
        assert (tmp_path / "final" / "file").read_text() == str(number)
        assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_one_process_at_a_time_fills_a_folder(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from workers.weights import shared_folders
with shared_folders.exclusive(Path(sys.argv[1]), "fetch", "X"):
    print("in", flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "new folder")]
    first, second = (subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(2))
    with first, second:
        ready, _, _ = select.select([first.stdout, second.stdout], [], [], 20)
        assert len(ready) == 1
        inside, outside = (first, second) if ready == [first.stdout] else (second, first)
        assert select.select([outside.stdout], [], [], 0.3)[0] == []
        inside.kill()  # the kernel lets go
        assert outside.stdout.readline() == "in\n"
        outside.stdin.close()


def test_a_folder_that_may_not_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        RefusedConfigurationError, match=r"cannot be made: .* set REELVEC_X to one of yours"
    ):
        shared_folders.exclusive(tmp_path / "file" / "folder", "fetch", "REELVEC_X").__enter__()


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    shared_folders.refuse_full_disk(tmp_path, 1, "move")
    with pytest.raises(
        RefusedConfigurationError, match=r"1,000,000,000,000\.0 MB have to go to .* MB free: move"
    ):
        shared_folders.refuse_full_disk(tmp_path, 10**18, "move")
