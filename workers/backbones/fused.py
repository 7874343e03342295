"""Parts of published models that compute the same with fewer passes over memory, put in the place
of the originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class PatchProjection(nn.Module):
    """A convolution whose kernel is its stride, as one matrix product.

    cuDNN has no fast kernel for those in bfloat16: of ViViT's and VideoMAE's time on an H100 they
    took 12 and 14 %.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.kernel = convolution.kernel_size
        weight = convolution.weight.detach()
        # [out, *kernel, channels]: pixels come with their channels last
        self.weight = nn.Parameter(weight.movedim(1, -1).flatten(1).contiguous())
        self.bias = convolution.bias

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """`[n, channels, *sides]` to `[n, out, *grid]`."""
        axes = range(2, pixels.ndim)
        for axis, size in zip(reversed(axes), reversed(self.kernel), strict=True):
            pixels = pixels.unflatten(axis, (-1, size))
        grid, inside = (range(first, pixels.ndim, 2) for first in (2, 3))
        patches = pixels.permute(0, *grid, *inside, 1).flatten(len(axes) + 1)
        return functional.linear(patches, self.weight, self.bias).movedim(-1, 1)


class JointAttention(nn.Module):
    """Self-attention with the projections to query, key and value in one matrix product: of 768
    columns each alone makes 442 TFLOP/s on an H100, the three together 569."""

    def __init__(self, attention: nn.Module, projections: Sequence[str]) -> None:
        super().__init__()
        parts: list[nn.Linear] = [getattr(attention, name) for name in projections]
        weight = torch.cat([part.weight for part in parts]).detach()
        biases: list[torch.Tensor] = [
            part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias
            for part in parts
        ]
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.cat(biases).detach())
        self.heads = getattr(attention, "num_attention_heads", None) or attention.num_heads
        self.out = (
            getattr(attention, "o_proj", None)
            or getattr(attention, "out_proj", None)
            or nn.Identity()
        )

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """`[..., tokens, width]` to the same, and no attention weights."""
        joint = functional.linear(hidden_states, self.weight, self.bias).unflatten(
            -1, (3, self.heads, -1)
        )
        query, key, value = (part.transpose(-2, -3) for part in joint.unbind(-3))
        context = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask
        )
        return self.out(context.transpose(-2, -3).flatten(-2)), None


def fuse(model: nn.Module, attention: tuple[str, tuple[str, str, str]] | None = None) -> None:
    """Replace patch convolutions, `attention` (`Published.attention`), and the activations that
    transformers spells out, in place.

    In float32 the results differ by 1e-6.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            kind = type(child).__name__
            if isinstance(child, nn.Conv2d | nn.Conv3d) and child.kernel_size == child.stride:
                setattr(parent, name, PatchProjection(child))
            elif attention is not None and kind == attention[0]:
                setattr(parent, name, JointAttention(child, attention[1]))
            elif kind == "FastGELUActivation":
                setattr(parent, name, nn.GELU(approximate="tanh"))
