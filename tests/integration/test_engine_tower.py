"""What replaces parts of the published models computes the same; a batch that came out wrong is
computed in float32.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.weights import synthetic_frames
from workers.backbones import registry, tower
from workers.backbones.base import Loaded, Weights
from workers.backbones.fused import JointAttention, PatchProjection

MODELS = [name for name in registry.names() if registry.get(name).needs_torch]


def load(name: str) -> Loaded:
    return registry.module(name).load(Weights("random-tiny"), "cpu")


def attention_of(name: str) -> str | None:
    """The class of attention that is replaced."""
    published = registry.get(name).published
    return published.attention[0] if published and published.attention else None


def windows_of(loaded: Loaded, seed: int = 1, count: int = 1) -> torch.Tensor:
    length = loaded.spec.frames_per_window
    return torch.from_numpy(
        synthetic_frames(seed)[: count * length].reshape(count, length, 224, 224, 3).copy()
    )


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (nn.Conv2d(3, 5, 16, stride=16), (2, 3, 48, 64)),
        (nn.Conv3d(3, 5, (2, 16, 8), stride=(2, 16, 8), bias=False), (2, 3, 4, 32, 48)),
    ],
)
def test_a_patch_convolution_is_a_matrix_product(
    convolution: nn.Module, shape: tuple[int, ...]
) -> None:
    pixels = (
        torch.randn(shape).movedim(1, -1).contiguous().movedim(-1, 1)
    )  # channels last, as they come
    torch.testing.assert_close(
        PatchProjection(convolution)(pixels), convolution(pixels), atol=2e-6, rtol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_slow_parts_are_replaced_in_every_model(name: str) -> None:
    """A version of transformers that names them otherwise would run on, slower."""
    kinds = [type(part) for part in load(name).tower.module.modules()]
    slow = {kind.__name__ for kind in kinds} & {
        "Conv2d",
        "Conv3d",
        "FastGELUActivation",
        attention_of(name),
    }
    assert not slow
    assert PatchProjection in kinds
    if registry.get(name).published is not None:
        own = name in ("timesformer", "vjepa2")  # these have attention of their own
        assert own == (JointAttention not in kinds)


def test_sequences_that_share_one_do_not_see_each_other() -> None:
    from workers.backbones import timesformer

    loaded = load("timesformer")
    windows = windows_of(loaded, count=2)
    alone = loaded.encode(windows, ()).embeddings
    shared = timesformer.block_mask(8)
    assert shared.shape == (112, 112)
    layers = [layer.temporal_attention.attention for layer in loaded.tower.module.encoder.layer]
    for attention in layers:
        assert attention.mask is None, "on the CPU it would only be more work"
        attention.mask = shared
    torch.testing.assert_close(loaded.encode(windows, ()).embeddings, alone, atol=2e-6, rtol=0)
    for attention in layers:
        attention.mask = torch.zeros_like(shared)
    assert (loaded.encode(windows, ()).embeddings - alone).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_float32_for_once_and_bfloat16_as_before(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    exact = load(name)
    exact.tower.module.bfloat16().float()  # what the weights of the other are in float32
    monkeypatch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    rough = load(name)
    assert rough.tower.dtype_name == "float32"
    rough.tower.settle()
    windows = windows_of(exact)
    expected = exact.encode(windows, ()).embeddings
    before = rough.encode(windows, ()).embeddings
    assert rough.tower.dtype_name == "bfloat16"
    with rough.tower.precise():
        assert rough.tower.dtype_name == "float32"
        torch.testing.assert_close(
            rough.encode(windows, ()).embeddings, expected, atol=1e-5, rtol=0
        )
    torch.testing.assert_close(rough.encode(windows, ()).embeddings, before, atol=0, rtol=0)
    assert (before - expected).abs().max() > 1e-4
    assert torch.nn.functional.cosine_similarity(before, expected) > 0.999


def test_every_layer_is_compiled_for_each_size_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self, **options: compiled.append((type(self).__name__, options)),
    )
    load("x-clip").tower.compile()
    assert compiled == [("XCLIPVisionEncoderLayer", {"dynamic": False})] * 2
