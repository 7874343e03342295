"""The plain torch backbone: one vector a window, no scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.labels import LabelSet
from workers.backbones.base import Encoded, Spec, Windows

if TYPE_CHECKING:
    import torch

    from workers.backbones.tower import Tower


@dataclass(frozen=True)
class WindowModel:
    """A backbone that gives one vector a window. `forward` maps normalised pixels to [n, dim]."""

    spec: Spec
    digest: str
    dim: int
    pooling: str
    tower: Tower
    forward: Callable[[torch.Tensor], torch.Tensor]

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:  # noqa: ARG002 - nothing to score with
        import torch

        with torch.inference_mode():
            return Encoded(self.forward(self.tower.pixels(windows)).float(), {})
