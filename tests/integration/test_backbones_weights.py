"""Checkpoints as they are published load; anything that is not exactly theirs is refused, naming
what is wrong.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from db.errors import RefusedConfigurationError, UsageError
from db.labels import LabelSet
from tests.weights import (
    NOTEBOOK,
    PUBLISHED,
    SMALL,
    make_models_dir,
    save_checkpoint,
    synthetic_frames,
)
from workers.backbones import registry
from workers.backbones.base import Loaded, Weights
from workers.backbones.prompts import clip_bytes, folder_tokenizer

LABELS = LabelSet("animals", ("a cat", "a dog"), ("cat", "dog"))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return make_models_dir(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(published, tmp_path / "models"))


def load(name: str, models: Path | None) -> Loaded:
    return registry.module(name).load(Weights("pretrained", models), "cpu")


def edit_tensors(folder: Path, change) -> None:
    """Rewrite model.safetensors with `change(tensors)`."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_class_loads_and_encodes(published: Path, name: str) -> None:
    loaded = load(name, published)
    dim, pooling = 24 if name == "x-clip" else 48, registry.get(name).pooling
    assert (loaded.dim, loaded.pooling, loaded.tower.dtype_name) == (dim, pooling, "float32")
    spec = loaded.spec
    windows = torch.from_numpy(synthetic_frames(1)[: spec.frames_per_window][None].copy())
    encoded = loaded.encode(windows, [LABELS])
    assert encoded.embeddings.shape == (1, dim)
    assert encoded.embeddings.dtype == torch.float32
    assert set(encoded.probabilities) == ({LABELS.digest} if spec.has_text else set())


def test_vivit_with_a_pooler_is_pooled_by_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vivit", "VivitModel", "VivitConfig", SMALL)
    loaded = load("vivit", tmp_path)
    assert loaded.pooling == "pooler"
    edit_tensors(tmp_path / "vivit", lambda tensors: tensors.pop("pooler.dense.bias"))
    with pytest.raises(RefusedConfigurationError, match=r"lacks pooler\.dense\.bias"):
        load("vivit", tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_foreign_key_is_named(models: Path, name: str) -> None:
    edit_tensors(
        models / name,
        lambda tensors: tensors.update({"adapter.weight": np.ones((2, 2), np.float32)}),
    )
    with pytest.raises(
        RefusedConfigurationError, match=rf"{name}: .* keys of another model: adapter\.weight"
    ):
        load(name, models)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_key_is_named(models: Path, name: str) -> None:
    def drop(tensors: dict) -> None:
        norms = sorted(key for key in tensors if "norm" in key and not key.startswith("decoder"))
        del tensors[norms[0]]

    edit_tensors(models / name, drop)
    with pytest.raises(
        RefusedConfigurationError, match=rf"{name}: .* lacks \S*norm\S*; it does not hold"
    ):
        load(name, models)


@pytest.mark.parametrize(
    ("name", "setting", "value", "needed"),
    [
        *((name, "num_frames", 64, registry.get(name).frames_per_window) for name in NOTEBOOK),
        ("vivit", "image_size", 288, 224),
        ("vjepa2", "frames_per_clip", 16, 64),
        ("vjepa2", "crop_size", 384, 256),
        ("siglip2", "image_size", 384, 224),
        ("siglip2", "vision_use_head", False, True),
    ],
)
def test_another_shape_is_named(
    models: Path, name: str, setting: str, value: object, needed: object
) -> None:
    def change(config: dict) -> None:
        config.get("vision_config", config)[setting] = value

    edit_json(models / name / "config.json", change)
    with pytest.raises(
        RefusedConfigurationError, match=f"{setting} is {value}; {name} needs {needed}"
    ):
        load(name, models)


def test_another_number_of_text_positions_is_named(models: Path) -> None:
    def change(config: dict) -> None:
        config["text_config"]["max_position_embeddings"] = 77

    edit_json(models / "siglip2" / "config.json", change)
    with pytest.raises(
        RefusedConfigurationError,
        match=r"text_config\.max_position_embeddings is 77; siglip2 needs 64",
    ):
        load("siglip2", models)


def test_a_config_that_says_little_means_the_usual_values(models: Path) -> None:
    """As the published one of SigLIP 2 does."""

    def change(config: dict) -> None:
        for name in ("image_size", "num_channels", "vision_use_head"):
            config["vision_config"].pop(name, None)
        config["text_config"].pop("max_position_embeddings")

    edit_json(models / "siglip2" / "config.json", change)
    assert load("siglip2", models).dim == 48


def test_a_missing_predictor_is_named(models: Path) -> None:
    """The file is the published one, or none: also where what is missing would not have been
    used.
    """
    edit_tensors(models / "vjepa2", lambda tensors: tensors.pop("predictor.proj.weight"))
    with pytest.raises(
        RefusedConfigurationError, match=r"vjepa2: .* lacks predictor\.proj\.weight"
    ):
        load("vjepa2", models)


def test_a_finetuned_vjepa2_is_another_model(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path / "vjepa2",
        "VJEPA2ForVideoClassification",
        "VJEPA2Config",
        {**PUBLISHED["vjepa2"][2], "num_labels": 5},
    )
    with pytest.raises(RefusedConfigurationError, match="keys of another model: classifier"):
        load("vjepa2", tmp_path)


def test_another_model_is_named(models: Path) -> None:
    edit_json(models / "vivit" / "config.json", lambda config: config.update(model_type="vit"))
    with pytest.raises(RefusedConfigurationError, match="model_type is 'vit'; vivit is 'vivit'"):
        load("vivit", models)


def test_a_config_that_does_not_fit_the_tensors_is_named(models: Path) -> None:
    edit_json(models / "videomae" / "config.json", lambda config: config.update(hidden_size=96))
    with pytest.raises(
        RefusedConfigurationError, match=r"videomae: .* has shape \(\S*48\S*.*config\.json means"
    ):
        load("videomae", models)


def test_the_finetuned_videomae_is_another_model(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path / "videomae", "VideoMAEForVideoClassification", "VideoMAEConfig", SMALL
    )
    with pytest.raises(RefusedConfigurationError, match="keys of another model: classifier"):
        load("videomae", tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "vivit", "hidden_size": "wide"}'])
def test_a_config_that_cannot_be_read_is_named(models: Path, content: str) -> None:
    (models / "vivit" / "config.json").write_text(content)
    with pytest.raises(RefusedConfigurationError, match=r"vivit/config\.json"):
        load("vivit", models)


@pytest.mark.parametrize("missing", ["vivit", "vivit/config.json", "vivit/model.safetensors"])
def test_what_is_missing_is_named(models: Path, missing: str) -> None:
    path = models / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RefusedConfigurationError, match=f"vivit: {path} does not exist"):
        load("vivit", models)


def test_a_bin_file_is_refused(models: Path) -> None:
    (models / "vivit" / "model.safetensors").rename(models / "vivit" / "pytorch_model.bin")
    with pytest.raises(
        RefusedConfigurationError, match=r"pytorch_model\.bin is refused.*save_pretrained"
    ):
        load("vivit", models)


def test_a_cut_file_is_named(models: Path) -> None:
    path = models / "vivit" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RefusedConfigurationError, match=f"{path} is no whole safetensors file"):
        load("vivit", models)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(RefusedConfigurationError, match=f"{path} is no whole safetensors file"):
        load("vivit", models)


def test_a_digest_is_that_of_the_tensors_however_they_are_cut_into_files(models: Path) -> None:
    whole = load("timesformer", models)
    folder = models / "timesformer"
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[1::2],
        "model-00002-of-00002.safetensors": names[::2],
    }
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {key: file for file, keys in parts.items() for key in keys},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert load("timesformer", models).digest == whole.digest
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        RefusedConfigurationError, match=r"model-00002-of-00002\.safetensors does not exist"
    ):
        load("timesformer", models)


def test_one_changed_number_is_another_digest(models: Path) -> None:
    before = load("vivit", models).digest
    edit_tensors(
        models / "vivit", lambda tensors: tensors["vivit.layernorm.bias"].__setitem__(0, 7.0)
    )
    assert load("vivit", models).digest != before


def test_xclip_without_a_tokenizer_is_refused(models: Path) -> None:
    (models / "x-clip" / "tokenizer.json").unlink()
    with pytest.raises(
        RefusedConfigurationError, match=r"x-clip/tokenizer\.json does not exist, nor .*vocab\.json"
    ):
        load("x-clip", models)
    (models / "x-clip" / "vocab.json").write_text("{}")
    with pytest.raises(RefusedConfigurationError, match=r"nor .*merges\.txt"):
        load("x-clip", models)


def test_xclip_reads_a_tokenizer_of_vocabulary_and_merges(models: Path) -> None:
    folder = models / "x-clip"
    whole = {"c": 300, "a": 301, "t</w>": 302, "ca": 303, "cat</w>": 304, "a</w>": 305}
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(
        json.dumps(whole | {"<|startoftext|>": 49406, "<|endoftext|>": 49407})
    )
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    ids, mask = folder_tokenizer(registry.get("x-clip"), folder).batch(["A  cat", "cat"])
    assert ids.tolist() == [[49406, 305, 304, 49407], [49406, 304, 49407, 49407]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    load("x-clip", models)


@pytest.mark.parametrize("content", ["{", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'])
def test_a_tokenizer_that_is_not_clips_is_refused(models: Path, content: str) -> None:
    (models / "x-clip" / "tokenizer.json").write_text(content)
    with pytest.raises(
        RefusedConfigurationError, match=r"the tokenizer in .*x-clip (cannot be read|is not CLIP's)"
    ):
        load("x-clip", models)


@pytest.mark.parametrize(
    ("name", "room", "told"),
    [
        ("x-clip", 75, "tokens long; X-CLIP reads 77"),
        ("siglip2", 63, "tokens long; SigLIP 2 reads 64"),
    ],
)
def test_a_prompt_that_is_too_long_is_named_not_cut(
    published: Path, name: str, room: int, told: str
) -> None:
    loaded = load(name, published)
    windows = torch.zeros((1, loaded.spec.frames_per_window, 224, 224, 3), dtype=torch.uint8)
    fits, around = "x" * room, {"x-clip": 2, "siglip2": 1}[name]
    assert loaded.encode(windows, [LabelSet("fits", (fits, "z"), ("a", "b"))]).probabilities
    for length in (room + 1, room + 20):
        long = "y" * length
        with pytest.raises(UsageError, match=f"prompt '{long}' is {length + around} {told}"):
            loaded.encode(windows, [LabelSet("long", (fits, long), ("a", "b"))])


def test_the_published_tokenizer_of_the_tests_is_the_stand_in(published: Path) -> None:
    tokenize = folder_tokenizer(registry.get("x-clip"), published / "x-clip").tokenize
    for prompt in (
        "Video belongs to category 'Cooking'",
        "Видео: Кулинария",
        "  two  spaces",
        "naïve £ 漢",
    ):
        assert tokenize(prompt) == clip_bytes(prompt)


def test_siglip2_reads_what_transformers_own_tokenizer_reads(published: Path) -> None:
    """Lower case, no start, one end, and padding after it to 64: of a file that says none of it."""
    from transformers import Siglip2Tokenizer

    folder = published / "siglip2"
    theirs = Siglip2Tokenizer.from_pretrained(
        str(folder),
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
        local_files_only=True,
    )
    ours = folder_tokenizer(registry.get("siglip2"), folder)
    for prompt in ("A  Cat", "Видео: Кулинария", "naïve £ 漢 cats", "ΣΑΣ İ", "x" * 63):
        ids, _ = ours.batch([prompt])
        np.testing.assert_array_equal(
            ids, theirs([prompt], padding="max_length", max_length=64)["input_ids"]
        )
    assert ours.batch(["A  Cat"])[0].tolist() == [[261, 260, 266, 1] + [0] * 60]


def test_siglip2_without_its_tokenizer_or_with_another_is_refused(models: Path) -> None:
    path = models / "siglip2" / "tokenizer.json"
    shutil.copy(models / "x-clip" / "tokenizer.json", path)
    with pytest.raises(
        RefusedConfigurationError,
        match=r"the tokenizer in .*siglip2 is not Gemma's: <pad> and <eos>",
    ):
        load("siglip2", models)
    path.unlink()
    with pytest.raises(
        RefusedConfigurationError, match=f"siglip2: {path} does not exist; copy the checkpoint's"
    ):
        load("siglip2", models)
