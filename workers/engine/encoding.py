"""What goes into the engine and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from db.exit_codes import ExitCode
from db.labels import LabelSet
from workers.backbones.base import FloatArray, HalfArray

#: Of every `VideoError` of the engine.
STAGE = "encode"


class Ended(IntEnum):
    """Why an engine is of no use any more: the exit code of its process, which is then started
    again.
    """

    DEVICE_LOST = ExitCode.DEVICE_LOST
    STALLED = ExitCode.DEVICE_STALLED
    THREAD_DIED = ExitCode.ENGINE_DIED


class DeviceLostError(Exception):
    """The device answers nothing any more in this process (a lost CUDA context)."""


@dataclass(frozen=True)
class ModelKey:
    """A model to compute with: a backbone's name and a kind of weights."""

    backbone: str
    weights: str

    def __str__(self) -> str:
        return f"{self.backbone}:{self.weights}"


@dataclass(frozen=True)
class Bound:
    """What a loaded model turned out to be: the facts that bind an encoder.

    `exact` are the vectors float32 [w, d] of the frames that were asked for, computed in float32
    with the weights as they were loaded.
    """

    digest: str
    dim: int
    pooling: str
    exact: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class LoadRequest:
    """A model to load, and frames uint8 [96, 224, 224, 3] of which its exact vectors are wanted."""

    key: ModelKey
    exact_of: npt.NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class EncodeRequest:
    """One video for one model: frames uint8 [96, 224, 224, 3], and label sets for a model that
    scores them. `keep_context`: what others need to be scored later is wanted, too.
    """

    key: ModelKey
    frames: npt.NDArray[np.uint8]
    label_sets: tuple[LabelSet, ...]
    keep_context: bool = False


@dataclass(frozen=True, eq=False)
class Encoding:
    """One video's result: `windows` float32 [w, d], `pooled` [d] their mean, per label set digest
    [w, K]; `context` float16 [w, tokens, d] where it was asked for and the model has one.

    `dtype` is what the model computed in; `device_seconds` is the video's share of its batch's
    time.
    """

    windows: FloatArray
    pooled: FloatArray
    probabilities: Mapping[str, FloatArray]
    dtype: str
    device_seconds: float
    context: HalfArray | None = None
