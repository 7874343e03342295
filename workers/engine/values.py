"""What goes into the engine and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from db.labels import LabelSet
from workers.backbones.base import FloatArray


@dataclass(frozen=True)
class ModelKey:
    """A model to compute with: a backbone's name and a kind of weights."""

    backbone: str
    weights: str

    def __str__(self) -> str:
        return f"{self.backbone}:{self.weights}"


@dataclass(frozen=True)
class Bound:
    """What a loaded model turned out to be: the facts that bind an encoder."""

    digest: str
    dim: int
    pooling: str


@dataclass(frozen=True, eq=False)
class Job:
    """One video for one model: frames uint8 [96, 224, 224, 3], and label sets for a model that scores them."""

    key: ModelKey
    frames: npt.NDArray[np.uint8]
    label_sets: tuple[LabelSet, ...]


@dataclass(frozen=True, eq=False)
class Encoding:
    """One video's result: `windows` float32 [w, d], `pooled` [d] their mean, per label set digest [w, K].

    `dtype` is what the model computed in; `device_seconds` is the video's share of its batch's time.
    """

    windows: FloatArray
    pooled: FloatArray
    probabilities: Mapping[str, FloatArray]
    dtype: str
    device_seconds: float
