"""VideoMAE-base (Tong et al. 2022, pre-trained only): 16 frames to the mean of all tokens, as in
the notebook.

The fine-tuned checkpoints (`use_mean_pooling`, a trained `fc_norm` after the mean) are another
model and are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.backbones.base import SMALL, Loaded, Published, Spec, Weights
from workers.backbones.window_model import WindowModel
from workers.weights.loading import obtain

if TYPE_CHECKING:
    import torch

SPEC = Spec(
    name="videomae",
    checkpoint="MCG-NJU/videomae-base",
    ref="main",
    license="CC-BY-NC-4.0",
    commercial=False,
    frames_per_window=16,
    dim=768,
    pooling="mean",
    vector="mean of all tokens",
    scale=1 / 255,
    offset=0.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    model_type="videomae",
    allowed_unexpected=(r"decoder\..*", r"encoder_to_decoder\..*", "mask_token"),
    has_text=False,
    batch_windows=24,
    published=Published(
        model="VideoMAEModel",
        config="VideoMAEConfig",
        tiny={**SMALL, "use_mean_pooling": False},
        full={"use_mean_pooling": False},
        attention=("VideoMAESelfAttention", ("query", "key", "value")),
    ),
)


def load(weights: Weights, device: str) -> Loaded:
    from workers.backbones.tower import Tower

    model, digest = obtain(SPEC, weights)
    tower = Tower(model, SPEC, device)
    # a plain tensor, no buffer: `.to` leaves it behind and every forward would copy it to the
    # device again
    model.embeddings.position_embeddings = model.embeddings.position_embeddings.to(device)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = model(pixel_values=pixels).last_hidden_state
        return tokens.float().mean(dim=1)

    return WindowModel(SPEC, digest, model.config.hidden_size, "mean", tower, forward)
