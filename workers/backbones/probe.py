"""A backbone without a model: block means of a few frames through a fixed random matrix, in numpy.

For fault, soak, scale and overhead tests: under 10 ms a video, no torch, the same on every machine,
and far enough apart for different videos that a test can tell whose vector it holds. It is never a
default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from db.labels import LabelSet
from workers.backbones.base import Encoded, FloatArray, Loaded, Spec, Weights, Windows
from workers.sampling.plan import SIDE_PX

SPEC = Spec(
    name="probe",
    checkpoint=None,
    ref=None,
    license="MIT",
    commercial=True,
    frames_per_window=32,
    dim=64,
    pooling="projection",
    vector="block means times a fixed matrix",
    scale=1 / 127.5,
    offset=1.0,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    model_type="probe",
    allowed_unexpected=(),
    has_text=False,
    batch_windows=3,
    needs_torch=False,
)

#: Frames of a window that are looked at, the side of a block, and which of its pixels: every 4th in
#: both directions.
FRAMES = (0, 10, 21, 31)
BLOCK_PX, STEP_PX = 56, 4
BLOCKS = SIDE_PX // BLOCK_PX
#: One value more than the block means: a constant, so that no picture has the vector 0.
FEATURES = len(FRAMES) * BLOCKS * BLOCKS * 3 + 1


def matrix() -> FloatArray:
    """The projection, float32 [FEATURES, 64], from raw generator bits: the same everywhere."""
    uniform = np.random.Generator(np.random.PCG64(2025)).random((FEATURES, SPEC.dim), np.float32)
    return (uniform - np.float32(0.5)).astype(np.float32)


class Probe:
    """`Loaded` of the probe."""

    spec = SPEC
    dim = SPEC.dim
    pooling = SPEC.pooling
    tower = None

    def __init__(self) -> None:
        self._matrix = matrix()
        self.digest = hashlib.sha256(self._matrix.tobytes()).hexdigest()

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:  # noqa: ARG002 - it scores nothing
        picked = windows[:, FRAMES, ::STEP_PX, ::STEP_PX]
        side = BLOCK_PX // STEP_PX
        blocks = picked.reshape(len(windows), len(FRAMES), BLOCKS, side, BLOCKS, side, 3)
        means = blocks.mean(axis=(3, 5), dtype=np.float32).reshape(len(windows), -1)
        features = np.concatenate(
            [means * SPEC.scale - SPEC.offset, np.ones((len(windows), 1), np.float32)], axis=1
        )
        return Encoded((features @ self._matrix).astype(np.float32), {})


def load(weights: Weights, device: str) -> Loaded:  # noqa: ARG001 - it has no weights and uses no device
    return Probe()
