"""The engine: frames in, vectors and probabilities out. Safe to use from any thread.

All work on the device, loading too, goes through one batcher and so happens on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from db.labels import LabelSet
from workers.backbones import registry
from workers.backbones.base import FRAMES_PER_VIDEO, SIDE_PX
from workers.backbones.bucket import Bucket
from workers.engine.batcher import Batcher
from workers.engine.device import Device
from workers.engine.values import Bound, Encoding, Job, ModelKey

__all__ = ["Bound", "Encoding", "Engine", "ModelKey"]

FRAMES_SHAPE = (FRAMES_PER_VIDEO, SIDE_PX, SIDE_PX, 3)

#: Windows that may wait, of all models together: about 40 videos for all four. Beyond it `submit` blocks.
MAX_QUEUED_WINDOWS = 1024
#: How long the first video of a batch waits for company. On the CPU a batch is full with its first video.
MAX_DELAY_SECONDS = 0.03

LOAD_LANE = "load"


class Engine:
    """`device`: a torch device; None: a GPU if torch sees one, else the CPU. `models_dir`: the pretrained weights."""

    def __init__(self, *, device: str | None, models_dir: Path | Bucket | None) -> None:
        self._device = Device(device, models_dir)
        self._batcher = Batcher(self._run, max_queued_windows=MAX_QUEUED_WINDOWS)
        self._batcher.lane(LOAD_LANE, max_windows=1, max_delay_seconds=0)
        self._bound: dict[ModelKey, Bound] = {}

    @property
    def device_name(self) -> str:
        """`cpu`, or the GPU with its model."""
        return self._device.name

    def load(self, key: ModelKey) -> Bound:
        """Load and warm up a model; at once if that was done before.

        Raises `UsageError` for an unknown backbone or kind of weights, `RefusedConfigurationError` for weights that are
        not there, damaged or not this backbone's and for a GPU torch cannot use, `UnavailableError` for weights in a
        bucket that does not answer, `VideoError` if the device fails while loading.
        """
        if key not in self._bound:
            self._bound[key] = self._batcher.submit(LOAD_LANE, key, windows=1).result()
        return self._bound[key]

    def submit(
        self,
        key: ModelKey,
        frames: npt.NDArray[np.uint8],
        label_sets: tuple[LabelSet, ...],
        *,
        timeout_seconds: float,
    ) -> Future[Encoding]:
        """Encode one video's frames, uint8 [96, 224, 224, 3], with a loaded model; blocks while too much waits.

        The frames are read, not copied, until the future has its outcome: an `Encoding`, or a `VideoError` of stage
        encode (`engine_timeout` after `timeout_seconds` at the latest, `device_error`, `device_out_of_memory`,
        `nonfinite`), or a `UsageError` for a prompt the model cannot read.
        """
        if frames.shape != FRAMES_SHAPE or frames.dtype != np.uint8:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, not uint8 {FRAMES_SHAPE}")
        if key not in self._bound:
            raise ValueError(f"{key} is not loaded")
        windows = registry.get(key.backbone).windows_per_video
        job = Job(key, frames, label_sets)
        return self._batcher.submit(str(key), job, windows=windows, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """Finish the running batch; whatever else waits ends in `VideoError` `device_error`."""
        self._batcher.close()

    def _run(self, lane: str, payloads: Sequence[Any]) -> Sequence[Any]:
        """Work of one lane, on the device's thread."""
        if lane != LOAD_LANE:
            return self._device.run(cast(Sequence[Job], payloads))
        (key,) = payloads
        bound = self._device.load(key)
        self._batcher.lane(str(key), self._device.max_windows(key), MAX_DELAY_SECONDS)
        return [bound]
