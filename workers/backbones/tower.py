"""The part of a model that does nearly all of the work: in bfloat16 on a GPU, its layers compiled
where that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from workers.backbones.base import Spec, Windows
from workers.backbones.fused import fuse
from workers.sampling.plan import SIDE_PX


def compute_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU: the same range of numbers as float32. For ranks see `bench.truth`."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


class Tower:
    """`module` is moved to `device`, its slow parts replaced. It gets pixels as `spec` says.

    It computes in float32 with the weights as they were loaded until `settle`.
    """

    def __init__(self, module: nn.Module, spec: Spec, device: str) -> None:
        self._compute = compute_dtype(device)
        # rows of all channels, as long inner loops are what runs fast on the CPU; made here, as
        # taking numbers to a GPU later would wait for all that it still computes
        self._gain, self._shift = (
            torch.tensor(part).repeat(SIDE_PX).to(device) for part in spec.affine()
        )
        fuse(module, spec.published.attention if spec.published else None)
        self.module = module.to(device)

    def settle(self) -> None:
        """From now on compute in what suits the device; the weights are rounded to it."""
        self.module.to(self._compute)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in now."""
        return next(self.module.parameters()).dtype

    @property
    def dtype_name(self) -> str:
        """`float32` or `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def compile(self) -> None:
        """Layer by layer: all of them share one piece of code, so that starting takes seconds."""
        torch._dynamo.config.recompile_limit = 64  # one per batch size and kind of weights
        lists = [part for part in self.module.modules() if isinstance(part, nn.ModuleList)]
        for layer in max(lists, key=len):
            layer.compile(dynamic=False)

    @contextmanager
    def precise(self) -> Iterator[None]:
        """Everything in float32, for a batch that came out wrong. bfloat16 weights come back as
        they were.
        """
        before = self.dtype
        self.module.float()
        # convolutions on a GPU would else round their products to 10 bits
        exactly = torch.backends.cudnn.flags(allow_tf32=False)
        try:
            with exactly, torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self.module.to(before)

    def pixels(self, windows: Windows) -> torch.Tensor:
        """uint8 [n, T, H, W, 3] to [n, T, 3, H, W] in `dtype`: one affine per channel, computed in
        float32.

        In memory the channels stay last, where a patch projection reads them in runs.
        """
        scaled = windows.flatten(3).to(torch.float32)
        out = scaled if self.dtype == torch.float32 else torch.empty_like(scaled, dtype=self.dtype)
        return (
            torch.addcmul(self._shift, scaled, self._gain, out=out)
            .view(windows.shape)
            .permute(0, 1, 4, 2, 3)
        )
