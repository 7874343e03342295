"""EfficientNet-Lite (Tan and Le 2019; Google's "lite" of 2020 without squeeze-and-excitation and
with ReLU6).

Modules have the names of the package `efficientnet-lite-pytorch`, so that its checkpoints fit; its
own module is not used because it prints, and pads and normalises in steps of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """`repeats` blocks alike; the first of them has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": with stride 2 one row and column more behind
    than before.

    Right for even sides, as all are where this model has stride 2 on 224 px.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        if before == after:
            self.padding = (before, before)
        self._uneven = () if before == after else (before, after, before, after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, inputs, h, w]` to `[n, outputs, h / stride, w / stride]`."""
        padded = functional.pad(x, self._uneven) if self._uneven else x
        convolved: torch.Tensor = super().forward(padded)
        return convolved


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


class Block(nn.Module):
    """Widen, convolve each channel alone, narrow; add what came in where the shape is the same."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self._expands = stage.expansion != 1
        self._adds = stride == 1 and inputs == stage.channels
        if self._expands:
            self._expand_conv, self._bn0 = SameConvolution(inputs, wide, 1, 1), norm(wide)
        self._depthwise_conv = SameConvolution(wide, wide, stage.kernel, stride, groups=wide)
        self._bn1 = norm(wide)
        self._project_conv = SameConvolution(wide, stage.channels, 1, 1)
        self._bn2 = norm(stage.channels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = inputs
        if self._expands:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        out: torch.Tensor = self._bn2(self._project_conv(x))
        return out + inputs if self._adds else out


class Features(nn.Module):
    """Normalised pixels `[n, 3, 224, 224]` to `[n, head]`."""

    def __init__(self, stages: Sequence[Stage] = LITE0, *, stem: int = 32, head: int = 1280):
        super().__init__()
        self._conv_stem, self._bn0 = SameConvolution(3, stem, 3, 2), norm(stem)
        self._blocks = nn.ModuleList()
        channels = stem
        for stage in stages:
            for number in range(stage.repeats):
                self._blocks.append(Block(channels, stage, 1 if number else stage.stride))
                channels = stage.channels
        self._conv_head, self._bn1 = SameConvolution(channels, head, 1, 1), norm(head)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        head: torch.Tensor = functional.relu6(self._bn1(self._conv_head(x)))
        return head.mean(dim=(2, 3))


class Classifier(Features):
    """`Features`, and the scores of 1,000 classes made of them."""

    def __init__(self, stages: Sequence[Stage] = LITE0, *, stem: int = 32, head: int = 1280):
        super().__init__(stages, stem=stem, head=head)
        self._fc = nn.Linear(head, 1000)

    def take_classes(self) -> nn.Linear:
        """What makes the scores; it is no part of this module any more."""
        classes = self._fc
        del self._fc
        return classes


def fold_norms(module: nn.Module) -> None:
    """Put each batch norm into the convolution before it, in place: the same numbers but for
    rounding, in 0.6 of the time.
    """
    for parent in list(module.modules()):
        waiting = ""
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, waiting, fuse_conv_bn_eval(getattr(parent, waiting), child))
                setattr(parent, name, nn.Identity())
            waiting = name
