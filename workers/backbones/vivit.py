"""ViViT-B/16x2 (Arnab et al. 2021): 32 frames to one vector.

The published Kinetics-400 checkpoint has no pooler, so its vector is the class token. The notebook
took `pooler_output`, which without pooler weights is a random projection; weights that have a
pooler are pooled by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.backbones.base import SMALL, Loaded, Published, Spec, Weights
from workers.backbones.window_model import WindowModel
from workers.weights.loading import obtain

if TYPE_CHECKING:
    import torch

SPEC = Spec(
    name="vivit",
    checkpoint="google/vivit-b-16x2-kinetics400",
    ref="refs/pr/3",
    license="MIT",
    commercial=True,
    frames_per_window=32,
    dim=768,
    pooling="cls",
    vector="class token, or the pooler's output if the weights have one",
    # its processor both offsets to [-1, 1] and normalises with .5/.5: the model sees [-3, 1]
    scale=1 / 127.5,
    offset=1.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    model_type="vivit",
    allowed_unexpected=(r"classifier\..*",),
    has_text=False,
    batch_windows=12,
    published=Published(
        model="VivitModel",
        config="VivitConfig",
        tiny=SMALL,
        attention=("VivitAttention", ("q_proj", "k_proj", "v_proj")),
        optional_part=("pooler", "add_pooling_layer"),
    ),
)


def load(weights: Weights, device: str) -> Loaded:
    from workers.backbones.tower import Tower

    model, digest = obtain(SPEC, weights)
    tower = Tower(model, SPEC, device)
    pooled = model.pooler is not None  # the attribute is there either way

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        output = model(pixel_values=pixels)
        vector: torch.Tensor = output.pooler_output if pooled else output.last_hidden_state[:, 0]
        return vector

    dim = model.config.pooler_output_size if pooled else model.config.hidden_size
    return WindowModel(SPEC, digest, dim, "pooler" if pooled else "cls", tower, forward)
