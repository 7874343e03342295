"""What the torch backbones share: pixels to normalised tensors, and the plain model that gives one vector a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from db.labels import LabelSet
from workers.backbones.base import Encoded, FloatArray, Spec, Windows

if TYPE_CHECKING:
    import torch


def compute_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU (cosine 0.9999 with float32, and the same range of numbers), else float32."""
    import torch

    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def normalise(windows: torch.Tensor, spec: Spec, dtype: torch.dtype) -> torch.Tensor:
    """uint8 [n, T, H, W, 3] to `dtype` [n, T, 3, H, W]: one affine per channel, computed in float32."""
    import torch

    gain, shift = (torch.tensor(part, device=windows.device).view(3, 1, 1) for part in spec.affine())
    pixels = windows.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.mul_(gain).add_(shift).to(dtype)


def to_numpy(tensor: torch.Tensor) -> FloatArray:
    """float32 on the CPU: the point where a batch is waited for."""
    return np.asarray(tensor.float().cpu().numpy(), np.float32)


@dataclass(frozen=True)
class WindowModel:
    """A backbone that gives one vector a window and scores nothing. `forward` maps normalised pixels to [n, dim]."""

    spec: Spec
    digest: str
    dim: int
    pooling: str
    compute: torch.dtype
    forward: Callable[[torch.Tensor], torch.Tensor]

    @property
    def dtype(self) -> str:
        return dtype_name(self.compute)

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:  # noqa: ARG002 - nothing to score with
        import torch

        with torch.inference_mode():
            return Encoded(to_numpy(self.forward(normalise(windows, self.spec, self.compute))), {})
