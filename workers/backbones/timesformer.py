"""TimeSformer-base (Bertasius et al. 2021): 8 frames to the mean of all tokens.

The mean is the notebook's and includes the class token. The published checkpoint attends in time
and space by turns (`divided_space_time`); those that attend to space alone or to both at once are
run as well.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.backbones.base import SMALL, Loaded, Published, Spec, Weights
from workers.backbones.window_model import WindowModel
from workers.sampling.plan import SIDE_PX
from workers.weights.loading import obtain

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
    vector="mean of all tokens",
    scale=1 / 255,
    offset=0.0,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    model_type="timesformer",
    allowed_unexpected=(r"classifier\..*",),
    has_text=False,
    batch_windows=48,
    published=Published(
        model="TimesformerModel",
        config="TimesformerConfig",
        tiny=SMALL,
    ),
    choices={"attention_type": ("divided_space_time", "space_only", "joint_space_time")},
)

#: Sequences of the temporal attention that share one on a GPU, at most; 196 patches are 14 times as
#: many.
GROUP = 14


def load(weights: Weights, device: str) -> Loaded:
    import torch

    from workers.backbones.tower import Tower

    model, digest = obtain(SPEC, weights)
    tower = Tower(model, SPEC, device)
    patches = (SIDE_PX // model.config.patch_size) ** 2
    group = max(size for size in range(1, GROUP + 1) if patches % size == 0)
    mask = block_mask(model.config.num_frames, group).to(device, tower.dtype)
    on_gpu = tower.dtype != torch.float32
    for layer in model.encoder.layer:
        layer.attention.attention.forward = MethodType(fused_attention, layer.attention.attention)
        if model.config.attention_type != "divided_space_time":  # the others have none in time
            continue
        temporal = layer.temporal_attention.attention
        temporal.forward = MethodType(fused_attention, temporal)
        temporal.mask = mask if on_gpu else None

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = model(pixel_values=pixels).last_hidden_state
        # where frames do not see each other, each is a row of its own
        return tokens.float().reshape(len(pixels), -1, tokens.shape[-1]).mean(dim=1)

    return WindowModel(SPEC, digest, model.config.hidden_size, "mean", tower, forward)


def block_mask(tokens: int, group: int = GROUP) -> torch.Tensor:
    """What is added to the scores of `group` sequences of so many tokens in one, float32: 0 within
    a sequence, else -inf.
    """
    import torch

    own = torch.block_diag(*(torch.ones(tokens, tokens) for _ in range(group)))
    return torch.zeros_like(own).masked_fill_(own == 0, -torch.inf)


def fused_attention(
    self: Any, hidden_states: torch.Tensor, output_attentions: bool = False
) -> tuple[torch.Tensor]:
    """`TimesformerSelfAttention.forward` with torch's fused kernel, which transformers 5.23 lacks
    here (4.8e-7 off).

    With `self.mask` several sequences share one: a kernel's tile is 128 tokens, and 8 would leave
    it nearly empty.
    """
    del output_attentions  # the caller passes it; the fused kernel has none to give
    from torch.nn.functional import scaled_dot_product_attention

    shape, mask = hidden_states.shape, getattr(self, "mask", None)
    if mask is not None:
        hidden_states = hidden_states.reshape(-1, len(mask), shape[-1])
        mask = mask.to(hidden_states.dtype)
    heads = (*hidden_states.shape[:-1], 3, self.num_heads, -1)
    query, key, value = self.qkv(hidden_states).view(heads).permute(2, 0, 3, 1, 4)
    context = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scale)
    return (context.transpose(1, 2).reshape(shape),)
