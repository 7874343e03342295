"""The engine: frames in, vectors and probabilities out.

`Engine` is its face, safe to use from any thread. `DeviceWork` is what the one thread behind the
batcher does for it, loading too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import numpy.typing as npt

from db.errors import VideoError
from db.labels import LabelSet
from workers.backbones import registry
from workers.engine.batcher import Batcher
from workers.engine.device import Device, Started
from workers.engine.encoding import Bound, EncodeRequest, Encoding, Ended, LoadRequest, ModelKey
from workers.engine.lanes import Load, Piece
from workers.engine.outcomes import join
from workers.sampling.plan import SHAPE
from workers.weights.bucket import Bucket

__all__ = ["Bound", "Encoding", "Ended", "Engine", "Load", "ModelKey"]

#: Windows that may wait, of all models together: about 40 videos for the notebook's four. Beyond it
#: `submit` blocks.
MAX_QUEUED_WINDOWS = 1024
#: How long the first video of a batch waits for company. On the CPU a batch is full with its first
#: video.
MAX_DELAY_SECONDS = 0.03

#: The lane whose items are models to load, one a batch; those of all others are videos to encode.
LOAD_LANE = "load"


class Engine:
    """`device`: a torch device; None: a GPU if torch sees one, else the CPU. `models_dir`: the
    pretrained weights.

    `videos_per_batch`: most videos of a batch; None: what suits the device's memory. `compile`:
    auto, on or off. `ended` is called, once, when nothing can be computed in this process any more;
    a batch that takes longer than `stall_seconds` is one such reason.
    """

    def __init__(
        self,
        *,
        device: str | None,
        models_dir: Path | Bucket | None,
        videos_per_batch: int | None = None,
        compile: str = "auto",
        stall_seconds: float = math.inf,
        ended: Callable[[Ended, str], None] = lambda _cause, _reason: None,
    ) -> None:
        self._device = Device(
            device, models_dir, videos_per_batch=videos_per_batch, compile=compile
        )
        self._batcher = Batcher(
            DeviceWork(self._device),
            max_queued_windows=MAX_QUEUED_WINDOWS,
            stall_seconds=stall_seconds,
            ended=ended,
        )
        # weights may have to come from a bucket first
        self._batcher.lane(LOAD_LANE, (1,), 0, may_stall=False)
        self._bound: dict[ModelKey, Bound] = {}

    @property
    def device_name(self) -> str:
        """`cpu`, or the GPU with its model."""
        return self._device.name

    @property
    def gpu_uuid(self) -> str | None:
        """Which GPU it is, on every machine; None on the CPU."""
        return self._device.gpu_uuid

    @property
    def videos_per_batch(self) -> int:
        """Most videos of a batch."""
        return self._device.videos_per_batch

    def new_frames(self) -> npt.NDArray[np.uint8]:
        """Memory for a video's frames from which the device reads fastest, uint8 [96, 224, 224,
        3].
        """
        return self._device.new_frames()

    def busy(self) -> Load:
        """How much waits and runs."""
        return self._batcher.load()

    def batch_seconds(self) -> float:
        """How long the oldest batch has been on the device; 0 while none is."""
        return self._batcher.batch_seconds()

    def load(self, key: ModelKey, exact_of: npt.NDArray[np.uint8] | None = None) -> Bound:
        """Load and warm up a model; at once if that was done before.

        `exact_of`: frames whose vectors in float32 are wanted, which are to be had only before the
        weights are rounded to what the device computes in.
        Raises `UsageError` for an unknown backbone or kind of weights, `RefusedConfigurationError`
        for weights that are not there, damaged or not this backbone's and for a GPU torch cannot
        use, `UnavailableError` for weights in a bucket that does not answer, `VideoError` if the
        device fails while loading.
        """
        if key not in self._bound:
            bound: Bound = self._batcher.submit(
                LOAD_LANE, LoadRequest(key, exact_of), windows=1
            ).result()
            self._batcher.lane(str(key), self._device.sizes(key), MAX_DELAY_SECONDS)
            self._bound[key] = bound
        return self._bound[key]

    def submit(
        self,
        key: ModelKey,
        frames: npt.NDArray[np.uint8],
        label_sets: tuple[LabelSet, ...],
        *,
        timeout_seconds: float,
        alone: bool = False,
        keep_context: bool = False,
    ) -> Future[Encoding]:
        """Encode one video's frames, uint8 [96, 224, 224, 3], with a loaded model; blocks while too
        much waits.

        `alone`: in batches of its own. The frames are read, not copied, until the future has its
        outcome: an `Encoding`, or a `VideoError` of stage encode (`engine_timeout` after
        `timeout_seconds` at the latest, `device_error`, `device_out_of_memory`, `nonfinite`), or a
        `UsageError` for a prompt the model cannot read.
        """
        if frames.shape != SHAPE or frames.dtype != np.uint8:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, not uint8 {SHAPE}")
        if key not in self._bound:
            raise ValueError(f"{key} is not loaded")
        windows = registry.get(key.backbone).windows_per_video
        request = EncodeRequest(key, frames, label_sets, keep_context)
        return self._batcher.submit(
            str(key), request, windows=windows, timeout_seconds=timeout_seconds, alone=alone
        )

    def close(self) -> None:
        """Finish the running batch; whatever else waits ends in `VideoError` `device_error`."""
        self._batcher.close()


class DeviceWork:
    """The `Work` of the engine's batcher."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Bound | Started:
        if lane == LOAD_LANE:
            request = pieces[0].item.payload
            return self._device.load(request.key, request.exact_of)
        return self._device.start(pieces, precise=precise)

    def is_done(self, started: Bound | Started) -> bool:
        return isinstance(started, Bound) or self._device.is_done(started)

    def finish(self, started: Bound | Started) -> Sequence[Bound | Encoding | VideoError]:
        return [started] if isinstance(started, Bound) else self._device.finish(started)

    def join(self, parts: Sequence[Encoding]) -> Encoding:
        return join(parts)
