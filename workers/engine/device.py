"""What happens on the one thread that owns the device: models are loaded, batches started and
finished.

torch is imported at once where a GPU is asked for or visible, so that one it cannot use is refused
before any work; else when the first backbone that needs it is loaded. On the CPU it uses one thread
per core this process may use, or `OMP_NUM_THREADS`.

A video's frames go to a GPU once, on a stream of their own, and stay there for all models as long
as the sampled frames are in use here. Nothing is waited for until a batch is finished.
"""

from __future__ import annotations

import logging
import time
import traceback
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from db import machine
from db.errors import VideoError
from workers.backbones import registry
from workers.backbones.base import Encoded, FloatArray, Loaded, Weights, Windows
from workers.engine.device_choice import choose_device, wants_compiling
from workers.engine.encoding import Bound, DeviceLostError, EncodeRequest, Encoding, ModelKey
from workers.engine.lanes import Item, Piece
from workers.engine.outcomes import as_reelvec_error, outcome
from workers.node import shape
from workers.sampling.plan import SHAPE
from workers.weights.bucket import Bucket
from workers.weights.models_dir import local_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """A batch on its way. `began` and `ended` are events of the GPU's stream, on the CPU times:
    `encoded` is complete then.
    """

    pieces: Sequence[Piece]
    encoded: Encoded
    dtype: str
    began: Any
    ended: Any


class Device:
    """`requested`: a torch device, or None for the first GPU torch sees, else the CPU.
    `videos_per_batch`: None for what suits the device's memory. `compile`: auto, on or off.

    Raises `RefusedConfigurationError` for a device that does not work, or a visible GPU that torch
    cannot use.
    """

    def __init__(
        self,
        requested: str | None,
        models_dir: Path | Bucket | None,
        *,
        videos_per_batch: int | None = None,
        compile: str = "auto",
    ) -> None:
        self._requested = requested
        self._models_dir = models_dir
        self._torch_device: str | None = None  # on the CPU decided with the first torch backbone
        if requested != "cpu" and (requested or machine.visible_gpus()):
            self._torch_device = choose_device(requested)
        self.videos_per_batch = videos_per_batch or shape.videos_per_batch(self.memory_bytes)
        self._compile = compile
        self._copies: Any = None  # the stream frames are copied on
        self._loaded: dict[ModelKey, Loaded] = {}
        self._resident: dict[int, Any] = {}  # frames on the GPU, by the id of those here

    @property
    def name(self) -> str:
        """`cpu`, or the GPU with its model; before a torch backbone is loaded what was asked for,
        else `cpu`.
        """
        if self._torch_device is None or not self._on_gpu:
            return self._torch_device or self._requested or "cpu"
        import torch

        return f"{self._torch_device} ({torch.cuda.get_device_name(self._torch_device)})"

    @property
    def gpu_uuid(self) -> str | None:
        """Of the GPU, or of the part of one (MIG) that this process sees; None on the CPU."""
        if not self._on_gpu:
            return None
        import torch

        part = next((gpu for gpu in machine.visible_gpus() if gpu.startswith("MIG-")), None)
        return part or str(torch.cuda.get_device_properties(self._torch_device).uuid)

    @property
    def memory_bytes(self) -> int | None:
        """All memory of the GPU; None on the CPU."""
        if not self._on_gpu:
            return None
        import torch

        return int(torch.cuda.get_device_properties(self._torch_device).total_memory)

    def new_frames(self) -> npt.NDArray[np.uint8]:
        """Memory for a video's frames, uint8 [96, 224, 224, 3]. From any thread.

        For a GPU it is page-locked, which torch keeps and uses again: copying from it takes 0.3 ms
        instead of 1.1, and no thread.
        """
        if not self._on_gpu:
            return np.empty(SHAPE, np.uint8)
        import torch

        with torch.cuda.device(self._torch_device):
            frames: npt.NDArray[np.uint8] = torch.empty(
                SHAPE, dtype=torch.uint8, pin_memory=True
            ).numpy()
        return frames

    def load(self, key: ModelKey, exact_of: npt.NDArray[np.uint8] | None = None) -> Bound:
        """Load and warm up a model, once. Raises as `Engine.load` says."""
        exact: FloatArray | None = None
        if key not in self._loaded:
            module = registry.module(key.backbone)
            from_files = module.SPEC.in_models_dir and key.weights == "pretrained"
            weights = Weights(
                key.weights, local_folder(self._models_dir, key.backbone) if from_files else None
            )
            if module.SPEC.needs_torch and self._torch_device is None:
                self._torch_device = choose_device(self._requested)
            if self._on_gpu and self._copies is None:
                import torch

                torch.cuda.set_device(self._torch_device)  # of this thread
                self._copies = torch.cuda.Stream()
            started = time.perf_counter()
            loaded = module.load(weights, self._torch_device or "cpu")
            compiled = loaded.tower is not None and wants_compiling(
                self._compile, on_gpu=self._on_gpu
            )
            self._loaded[key] = loaded
            try:
                if exact_of is not None:
                    exact = self._exact(key, exact_of)
                if loaded.tower is not None:
                    loaded.tower.settle()
                    if compiled:
                        loaded.tower.compile()
                self._warm_up(key, compiled=compiled)
            except BaseException:
                del self._loaded[key]
                raise
            how = ", its layers compiled" if compiled else ""
            log.info(
                "%s loaded on %s in %.1f s%s", key, self.name, time.perf_counter() - started, how
            )
        loaded = self._loaded[key]
        return Bound(loaded.digest, loaded.dim, loaded.pooling, exact)

    def sizes(self, key: ModelKey) -> tuple[int, ...]:
        """Windows a batch may have: those of 1, 2, 4 ... videos. On the CPU those of one: more only
        take memory there.
        """
        spec = self._loaded[key].spec
        most = (
            min(self.videos_per_batch, spec.batch_windows // spec.windows_per_video)
            if self._on_gpu
            else 1
        )
        return tuple(
            spec.windows_per_video << doublings for doublings in range(max(1, most).bit_length())
        )

    def start(self, pieces: Sequence[Piece], *, precise: bool = False) -> Started:
        """Begin to encode windows of one model in one batch; `precise`: in float32.

        Raises what fails the batch as a whole, `DeviceLostError` if the device does not answer any
        more.
        """
        try:
            return self._start(pieces, precise=precise)
        except Exception as error:
            raise self._meaning(error) from error

    def is_done(self, started: Started) -> bool:
        """Whether a batch's results are there, or will not come: `finish` says so."""
        try:
            return not self._on_gpu or bool(started.ended.query())
        except Exception:  # noqa: BLE001 - the first call after it that waits for the device meets it again
            return True

    def finish(self, started: Started) -> list[Encoding | VideoError]:
        """Wait for a batch; an outcome for each piece. Raises as `start`."""
        try:
            if self._on_gpu:
                started.ended.synchronize()
        except Exception as error:
            raise self._meaning(error) from error
        seconds = (
            started.began.elapsed_time(started.ended) / 1000
            if self._on_gpu
            else started.ended - started.began
        )
        each = seconds / sum(piece.windows for piece in started.pieces)
        outcomes, row = [], 0
        for piece in started.pieces:
            rows = slice(row, row + piece.windows)
            outcomes.append(
                outcome(
                    piece.item.payload, started.encoded, rows, started.dtype, each * piece.windows
                )
            )
            row += piece.windows
        return outcomes

    @property
    def _on_gpu(self) -> bool:
        return (self._torch_device or "cpu").startswith("cuda")

    def _start(self, pieces: Sequence[Piece], *, precise: bool) -> Started:
        loaded = self._loaded[pieces[0].item.payload.key]
        label_sets = {
            labels.digest: labels for piece in pieces for labels in piece.item.payload.label_sets
        }
        windows = self._together(loaded, pieces)
        began = self._mark()
        in_float32 = precise and loaded.tower is not None
        with loaded.tower.precise() if precise and loaded.tower is not None else nullcontext():
            encoded = loaded.encode(windows, tuple(label_sets.values()))
        scores = {digest: self._to_host(part) for digest, part in encoded.probabilities.items()}
        keeps = any(piece.item.payload.keep_context for piece in pieces)
        context = None
        if keeps and encoded.context is not None:
            context = self._to_host(encoded.context.half())
        encoded = Encoded(self._to_host(encoded.embeddings), scores, context)
        dtype = "float32" if in_float32 or loaded.tower is None else loaded.tower.dtype_name
        return Started(pieces, encoded, dtype, began, self._mark())

    def _together(self, loaded: Loaded, pieces: Sequence[Piece]) -> Windows:
        """Windows of several videos as one batch, on the device. A single video is not copied."""
        length = loaded.spec.frames_per_window
        if not loaded.spec.needs_torch:
            parts = [_windows(piece.item.payload.frames, piece, length) for piece in pieces]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        import torch

        tensors = [
            _windows(self._on_device(piece.item.payload.frames), piece, length) for piece in pieces
        ]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def _on_device(self, frames: npt.NDArray[np.uint8]) -> Any:
        """A video's frames as a tensor on the device, which all models share while `frames`
        lives.
        """
        import torch

        # torch has no read-only tensors, and warns
        here = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
        if not self._on_gpu:
            return here
        if id(frames) not in self._resident:
            computing = torch.cuda.current_stream()
            with torch.cuda.stream(self._copies):
                there = here.to(self._torch_device, non_blocking=True)
            computing.wait_stream(self._copies)
            # its memory is not given to others before the last batch has read it
            there.record_stream(computing)
            self._resident[id(frames)] = there
            weakref.finalize(frames, self._resident.pop, id(frames), None)
        return self._resident[id(frames)]

    def _to_host(self, numbers: Any) -> Any:
        """On its way from the GPU; elsewhere it is here already."""
        if not self._on_gpu or isinstance(numbers, np.ndarray):
            return numbers
        import torch

        return torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True).copy_(
            numbers, non_blocking=True
        )

    def _mark(self) -> Any:
        """Now: on a GPU an event of the stream, which can be waited for without using a core."""
        if not self._on_gpu:
            return time.perf_counter()
        import torch

        mark = torch.cuda.Event(enable_timing=True, blocking=True)
        mark.record()
        return mark

    def _exact(self, key: ModelKey, frames: npt.NDArray[np.uint8]) -> FloatArray:
        """A video's vectors in float32, [w, d]. Raises `VideoError` for numbers that are none."""
        windows = self._loaded[key].spec.windows_per_video
        job = Item(EncodeRequest(key, frames, ()), windows, 0, 0, alone=True)
        (made,) = self.finish(self.start([Piece(job, 0, windows)], precise=True))
        if isinstance(made, VideoError):
            raise made
        return made.windows

    def _warm_up(self, key: ModelKey, *, compiled: bool) -> None:
        """A batch of black of every size: no video shall wait for the device's libraries, or find
        them broken.
        """
        loaded = self._loaded[key]
        for size in self.sizes(key) if self._on_gpu or compiled else (1,):
            black = EncodeRequest(key, np.zeros(SHAPE, np.uint8), ())
            videos = -(-size // loaded.spec.windows_per_video)
            pieces = [Piece(Item(black, size, 0, 0, alone=False), 0, size // videos)] * videos
            windows = self.start(pieces)
            if self._on_gpu:
                windows.ended.synchronize()
            if windows.encoded.embeddings.shape != (size, loaded.dim):
                got = tuple(windows.encoded.embeddings.shape)
                raise RuntimeError(f"{loaded.spec.name}: vectors {got}, not {(size, loaded.dim)}")

    def _meaning(self, error: Exception) -> Exception:
        """What a failed batch means. Frees what the failed computation held."""
        traceback.clear_frames(error.__traceback__)
        meaning = as_reelvec_error(error)
        if not self._on_gpu or not isinstance(meaning, VideoError):
            return meaning
        if meaning.code == "device_out_of_memory":
            self._free()
        elif not self._answers():
            return DeviceLostError(str(meaning))
        return meaning

    def _free(self) -> None:
        """Give back the GPU memory that torch keeps for later."""
        import torch

        torch.cuda.empty_cache()

    def _answers(self) -> bool:
        """Whether the GPU still computes: after some errors nothing works any more in this
        process.
        """
        import torch

        try:
            return bool(torch.ones(1, device=self._torch_device).add_(1).item() == 2)
        except Exception:  # noqa: BLE001 - that is the answer
            return False


def _windows(frames: Any, piece: Piece, length: int) -> Any:
    """A piece's windows, [n, length, 224, 224, 3], of a video's frames (numpy or torch, not
    copied).
    """
    return frames.reshape(-1, length, *frames.shape[1:])[piece.start : piece.stop]
