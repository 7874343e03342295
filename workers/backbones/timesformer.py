"""TimeSformer-base (Bertasius et al. 2021, divided space-time attention): 8 frames to the mean of all tokens.

The mean is the notebook's and includes the class token.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.backbones.base import Loaded, Spec, Weights
from workers.backbones.tensors import WindowModel, compute_dtype
from workers.backbones.weights import obtain

if TYPE_CHECKING:
    import torch

SPEC = Spec(
    name="timesformer",
    checkpoint="facebook/timesformer-base-finetuned-k400",
    ref="refs/pr/5",
    license="CC-BY-NC-4.0",
    commercial=False,
    frames_per_window=8,
    dim=768,
    pooling="mean",
    scale=1 / 255,
    offset=0.0,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    model_type="timesformer",
    allowed_unexpected=(r"classifier\..*",),
    has_text=False,
    batch_windows=48,
)

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def load(weights: Weights, device: str) -> Loaded:
    model, digest = obtain(SPEC, weights, "TimesformerModel", "TimesformerConfig", tiny=TINY, full={})
    dtype = compute_dtype(device)
    model = model.to(device, dtype)
    for layer in model.encoder.layer:
        for attention in (layer.attention.attention, layer.temporal_attention.attention):
            attention.forward = MethodType(fused_attention, attention)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = model(pixel_values=pixels).last_hidden_state
        return tokens.float().mean(dim=1)

    return WindowModel(SPEC, digest, model.config.hidden_size, "mean", dtype, forward)


def fused_attention(self: Any, hidden_states: torch.Tensor, output_attentions: bool = False) -> tuple[torch.Tensor]:
    """`TimesformerSelfAttention.forward` with torch's fused kernel, which transformers 5.23 lacks here (4.8e-7 off)."""
    del output_attentions  # the caller passes it; the fused kernel has none to give
    from torch.nn.functional import scaled_dot_product_attention

    batch, tokens, width = hidden_states.shape
    query, key, value = self.qkv(hidden_states).view(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
    context = scaled_dot_product_attention(query, key, value, scale=self.scale)
    return (context.transpose(1, 2).reshape(batch, tokens, width),)
