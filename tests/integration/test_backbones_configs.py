"""Checkpoints whose config.json says something else than the published one: computed as
transformers does, or refused.

The reference is transformers' own forward, unpatched, of the same small weights, float32 on the
CPU.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from db.errors import RefusedConfigurationError
from db.labels import LabelSet
from producer.doctor.models import _incomplete
from tests.weights import (
    PUBLISHED,
    TOKENIZERS,
    save_checkpoint,
    synthetic_frames,
)
from workers.backbones import registry
from workers.backbones.base import Weights
from workers.backbones.prompts import folder_tokenizer
from workers.backbones.registry import BACKBONES
from workers.weights.inventory import inventory

LABELS = LabelSet("few", ("cooking", "фильм", "news"), ("c", "f", "n"))
#: What every model's blocks are made with, none of it as published.
BLOCKS = {"hidden_act": "relu", "layer_norm_eps": 1e-2, "initializer_range": 0.1}
NO_BIAS = {
    **BLOCKS,
    "qkv_bias": False,
    "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.3,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "timesformer, space only": ("timesformer", {"attention_type": "space_only"}),
    "timesformer, joint": ("timesformer", {"attention_type": "joint_space_time"}),
    "timesformer": ("timesformer", {**NO_BIAS, "patch_size": 32, "drop_path_rate": 1}),
    "vivit": ("vivit", {**NO_BIAS, "tubelet_size": [4, 32, 16]}),
    "vivit, pooler": (
        "vivit",
        {"tubelet_size": [4, 32, 32], "pooler_act": "relu", "pooler_output_size": 24},
    ),
    "videomae": ("videomae", {**NO_BIAS, "tubelet_size": 4, "patch_size": 32}),
    "x-clip": (
        "x-clip",
        {
            "vision_config": {
                **BLOCKS,
                "patch_size": 32,
                "drop_path_rate": 0.5,
                "attention_dropout": 0.2,
            },
            "text_config": BLOCKS,
            **{"prompt_layers": 1, "prompt_alpha": 0.7, "prompt_hidden_act": "gelu"},
        },
    ),
    "siglip2": ("siglip2", {"vision_config": {**BLOCKS, "patch_size": 32}, "text_config": BLOCKS}),
    "vjepa2": (
        "vjepa2",
        {**NO_BIAS, "patch_size": 32, "tubelet_size": 4, "mlp_ratio": 3, "drop_path_rate": 0.2},
    ),
}


def made(name: str, changed: dict[str, Any], folder: Path, *, model: str | None = None) -> Path:
    """A small checkpoint in `folder`, its settings changed."""
    published, config, settings = PUBLISHED[name]
    settings = copy.deepcopy(settings)
    for key, value in changed.items():
        settings[key] = settings.get(key, {}) | value if isinstance(value, dict) else value
    save_checkpoint(folder / name, model or published, config, settings)
    if registry.get(name).has_text:
        TOKENIZERS[name](folder / name)
    return folder / name


def windows_of(name: str) -> torch.Tensor:
    return torch.from_numpy(
        synthetic_frames(5)[: registry.get(name).frames_per_window][None].copy()
    )


def pixels_of(name: str) -> torch.Tensor:
    """float32 [1, T, 3, 224, 224]"""
    spec = registry.get(name)
    scaled = windows_of(name).double() * spec.scale - spec.offset
    return (
        ((scaled - torch.tensor(spec.mean)) / torch.tensor(spec.std)).permute(0, 1, 4, 2, 3).float()
    )


@torch.no_grad()
def theirs(name: str, folder: Path, *, pooler: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The vector of one window, and the probabilities of `LABELS`."""
    options = {"crop_size": 224} if name == "vjepa2" else {}
    if name == "vivit":
        options = {"add_pooling_layer": pooler}
    published = registry.get(name).published
    assert published is not None
    kind = getattr(transformers, published.model)
    model = kind.from_pretrained(folder, attn_implementation="eager", **options).eval()
    pixels = pixels_of(name)
    if name == "vivit":
        output = model(pixel_values=pixels)
        return (output.pooler_output if pooler else output.last_hidden_state[:, 0]), None
    if name == "vjepa2":
        return model(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state.mean(
            dim=1
        ), None
    if not registry.get(name).has_text:
        return model(pixel_values=pixels).last_hidden_state.flatten(0, 1).mean(
            dim=0, keepdim=True
        ), None
    ids, mask = (
        torch.from_numpy(part)
        for part in folder_tokenizer(registry.get(name), folder).batch(LABELS.prompts)
    )
    if name == "x-clip":
        output = model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
        return output.video_embeds, output.logits_per_video.softmax(dim=-1)
    output = model(input_ids=ids, pixel_values=pixels[0])
    mean = torch.nn.functional.normalize(output.image_embeds.mean(dim=0, keepdim=True), dim=-1)
    return mean, (mean @ output.text_embeds.T * model.logit_scale.exp()).softmax(dim=-1)


@pytest.mark.parametrize("case", CASES)
def test_what_a_config_says_is_computed_as_transformers_does(tmp_path: Path, case: str) -> None:
    name, changed = CASES[case]
    pooler = case == "vivit, pooler"
    folder = made(name, changed, tmp_path, model="VivitModel" if pooler else None)
    expected, scores = theirs(name, folder, pooler=pooler)
    loaded = registry.module(name).load(Weights("pretrained", tmp_path), "cpu")
    encoded = loaded.encode(windows_of(name), [LABELS])
    assert loaded.dim == expected.shape[-1]
    np.testing.assert_allclose(encoded.embeddings.numpy(), expected.numpy(), atol=2e-5)
    if scores is not None:
        np.testing.assert_allclose(
            encoded.probabilities[LABELS.digest].numpy(), scores.numpy(), atol=1e-4
        )
    (held,) = [each for each in inventory(tmp_path, verify=True) if each.backbone == name]
    assert (held.state, held.problem) == ("by hand", None)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "timesformer",
        {"patch_size": 15},
        "patch_size is 15; timesformer needs one number that divides 224",
    ),
    (
        "videomae",
        {"patch_size": 15},
        "patch_size is 15; videomae needs one number that divides 224",
    ),
    ("vjepa2", {"patch_size": 18}, "patch_size is 18; vjepa2 needs"),
    (
        "vivit",
        {"tubelet_size": [3, 16, 16]},
        r"tubelet_size is \[3, 16, 16\]; vivit needs what divides 32 and 224",
    ),
    ("vivit", {"tubelet_size": [2, 15, 16]}, "vivit needs what divides 32 and 224"),
    ("videomae", {"tubelet_size": 3}, "tubelet_size is 3; videomae needs what divides 16"),
    (
        "siglip2",
        {"text_config": {"projection_size": 24}},
        "text_config.projection_size is 24 and vision_config.hidden_size is 48",
    ),
]


@pytest.mark.parametrize(("name", "changed", "said"), REFUSED)
def test_what_cannot_be_computed_is_refused_by_name_wherever_one_looks(
    tmp_path: Path, name: str, changed: dict[str, Any], said: str
) -> None:
    made(name, changed, tmp_path)
    with pytest.raises(RefusedConfigurationError, match=said):
        registry.module(name).load(Weights("pretrained", tmp_path), "cpu")
    (held,) = [each for each in inventory(tmp_path, verify=True) if each.backbone == name]
    assert held.state == "damaged"
    assert held.problem is not None
    assert f"{name}/config.json" in held.problem
    finding = _incomplete(name, tmp_path)
    assert finding is not None
    assert finding.fact == held.problem


def test_an_unknown_kind_of_attention_is_refused_by_name(tmp_path: Path) -> None:
    folder = made("timesformer", {}, tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"divided_space_time"', '"space_and_back"'))
    said = (
        "attention_type is 'space_and_back'; timesformer knows divided_space_time, space_only, "
        "joint_space_time"
    )
    with pytest.raises(RefusedConfigurationError, match=said):
        registry.module("timesformer").load(Weights("pretrained", tmp_path), "cpu")


@pytest.mark.parametrize("patch_size", [14, 16, 28, 32])
def test_sequences_share_whole_groups_whatever_the_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch_size: int
) -> None:
    """As on a GPU, in bfloat16."""
    from workers.backbones import tower

    made("timesformer", {"patch_size": patch_size}, tmp_path)
    exact = registry.module("timesformer").load(Weights("pretrained", tmp_path), "cpu")
    monkeypatch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    shared = registry.module("timesformer").load(Weights("pretrained", tmp_path), "cpu")
    windows = windows_of("timesformer")
    expected, got = (one.encode(windows, []).embeddings for one in (exact, shared))
    assert torch.nn.functional.cosine_similarity(expected, got).min() > 0.999


def test_every_backbone_with_weights_is_tried() -> None:
    assert {name for name, _ in CASES.values()} == {
        name for name in BACKBONES if registry.get(name).in_models_dir
    }
