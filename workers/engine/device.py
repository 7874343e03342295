"""What happens on the one thread that owns the device: models are loaded and batches run.

torch is imported at once where a GPU is asked for or visible, so that one it cannot use is refused before any work;
else when the first backbone that needs it is loaded. On the CPU it uses its own default of threads: one
per core this process may use, or `OMP_NUM_THREADS` (set that in a container with a CPU quota, which torch does not
see).
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from db.errors import ReelvecError, RefusedConfigurationError, VideoError
from workers.backbones import registry
from workers.backbones.base import SIDE_PX, Encoded, FloatArray, Loaded, Weights, Windows
from workers.backbones.bucket import Bucket
from workers.backbones.models_dir import local_folder
from workers.engine.values import Bound, Encoding, Job, ModelKey

log = logging.getLogger(__name__)

STAGE = "encode"
DEVICE_FILES = Path("/dev")


class Device:
    """`requested`: a torch device, or None for the first GPU torch sees, else the CPU.

    Raises `RefusedConfigurationError` for a device that does not work, or a visible GPU that torch cannot use.
    """

    def __init__(self, requested: str | None, models_dir: Path | Bucket | None) -> None:
        self._requested = requested
        self._models_dir = models_dir
        self._torch_device: str | None = None  # on the CPU decided with the first torch backbone
        if requested != "cpu" and (requested or visible_gpus()):
            self._torch_device = choose_device(requested)
        self._loaded: dict[ModelKey, Loaded] = {}

    @property
    def name(self) -> str:
        """`cpu`, or the GPU with its model; before a torch backbone is loaded what was asked for, else `cpu`."""
        if self._torch_device is None or not self._torch_device.startswith("cuda"):
            return self._torch_device or self._requested or "cpu"
        import torch

        return f"{self._torch_device} ({torch.cuda.get_device_name(self._torch_device)})"

    def load(self, key: ModelKey) -> Bound:
        """Load and warm up a model, once. Raises as `Engine.load` says."""
        if key not in self._loaded:
            module = registry.module(key.backbone)
            from_files = module.SPEC.checkpoint is not None and key.weights == "pretrained"
            weights = Weights(key.weights, local_folder(self._models_dir, key.backbone) if from_files else None)
            if module.SPEC.needs_torch and self._torch_device is None:
                self._torch_device = choose_device(self._requested)
            started = time.perf_counter()
            loaded = module.load(weights, self._torch_device or "cpu")
            self._warm_up(loaded)
            self._loaded[key] = loaded
            log.info("%s loaded on %s in %.1f s", key, self.name, time.perf_counter() - started)
        loaded = self._loaded[key]
        return Bound(loaded.digest, loaded.dim, loaded.pooling)

    def max_windows(self, key: ModelKey) -> int:
        """Windows of one batch. On the CPU those of one video: larger batches only take memory there."""
        spec = self._loaded[key].spec
        return spec.batch_windows if self._on_gpu else spec.windows_per_video

    def run(self, jobs: Sequence[Job]) -> list[Encoding | VideoError]:
        """Encode videos for one model in one batch; an outcome for each. Raises what fails the batch as a whole."""
        loaded = self._loaded[jobs[0].key]
        windows = [job.frames.reshape(-1, loaded.spec.frames_per_window, *job.frames.shape[1:]) for job in jobs]
        label_sets = {labels.digest: labels for job in jobs for labels in job.label_sets}
        started = time.perf_counter()
        try:
            encoded = loaded.encode(self._upload(loaded, windows), tuple(label_sets.values()))
        except Exception as error:
            raise as_reelvec_error(error) from error
        seconds = (time.perf_counter() - started) / len(jobs)
        count = loaded.spec.windows_per_video
        rows = (slice(start, start + count) for start in range(0, count * len(jobs), count))
        return [_outcome(job, loaded, encoded, part, seconds) for job, part in zip(jobs, rows, strict=True)]

    @property
    def _on_gpu(self) -> bool:
        return (self._torch_device or "cpu").startswith("cuda")

    def _warm_up(self, loaded: Loaded) -> None:
        """One batch of black: the first video shall neither wait for the device's libraries nor find them broken."""
        count = loaded.spec.batch_windows if self._on_gpu else 1
        black = np.zeros((count, loaded.spec.frames_per_window, SIDE_PX, SIDE_PX, 3), np.uint8)
        try:
            encoded = loaded.encode(self._upload(loaded, [black]), ())
        except Exception as error:
            raise as_reelvec_error(error) from error
        if encoded.embeddings.shape != (count, loaded.dim):
            raise RuntimeError(f"{loaded.spec.name}: vectors {encoded.embeddings.shape}, not {(count, loaded.dim)}")

    def _upload(self, loaded: Loaded, windows: Sequence[npt.NDArray[np.uint8]]) -> Windows:
        """Windows of several videos as one batch, on the device. On the CPU a single video is not copied."""
        if not loaded.spec.needs_torch:
            return windows[0] if len(windows) == 1 else np.concatenate(windows)
        import torch

        # torch has no read-only tensors, and warns
        parts = [torch.from_numpy(part if part.flags.writeable else part.copy()) for part in windows]
        if not self._on_gpu:
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        rows = sum(map(len, parts))
        pinned = torch.empty((rows, *parts[0].shape[1:]), dtype=torch.uint8, pin_memory=True)
        torch.cat(parts, out=pinned)
        return pinned.to(self._torch_device, non_blocking=True)


def _outcome(job: Job, loaded: Loaded, encoded: Encoded, rows: slice, seconds: float) -> Encoding | VideoError:
    """One video's rows of a batch. Numbers that cannot be stored or searched are an error, never a row."""
    vectors = encoded.embeddings[rows]
    wanted = job.label_sets if loaded.spec.has_text else ()
    probabilities = {labels.digest: encoded.probabilities[labels.digest][rows] for labels in wanted}
    for what, numbers in (("vector", vectors), *(("probabilities", part) for part in probabilities.values())):
        if not np.isfinite(numbers).all():
            return VideoError("nonfinite", f"{job.key}: a window's {what} is not finite", stage=STAGE)
    pooled: FloatArray = vectors.mean(axis=0, dtype=np.float32)
    if not (np.linalg.norm(vectors, axis=1).all() and np.linalg.norm(pooled)):
        return VideoError("nonfinite", f"{job.key}: a vector has length zero", stage=STAGE)
    return Encoding(vectors, pooled, probabilities, loaded.dtype, seconds)


def as_reelvec_error(error: Exception) -> ReelvecError:
    """What a failed batch means for its videos."""
    if isinstance(error, ReelvecError):
        return error
    text = f"{type(error).__name__}: {error}"
    # torch's own class, MemoryError, or the plain RuntimeError of torch's allocator on the CPU
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "allocate memory" in text:
        return VideoError("device_out_of_memory", text, stage=STAGE)
    return VideoError("device_error", text, stage=STAGE)


def visible_gpus() -> list[str]:
    """Device files of the NVIDIA GPUs of this machine that `CUDA_VISIBLE_DEVICES` does not hide."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "NoDevFiles"):
        return []
    return sorted(path.name for path in DEVICE_FILES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))


def choose_device(requested: str | None) -> str:
    """The torch device to use. Raises `RefusedConfigurationError` if it does not work: no silent run on the CPU."""
    import torch

    gpus = visible_gpus()
    if requested is None and gpus and not torch.cuda.is_available():
        raise RefusedConfigurationError(
            f"this machine shows {', '.join(gpus)}, but torch {torch.__version__} cannot use a GPU; install a torch "
            "built for its driver, or set REELVEC_DEVICE=cpu to compute on the CPU"
        )
    device = requested or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=device).add_(1).item()
    except Exception as error:
        raise RefusedConfigurationError(
            f"device {device!r} does not work with torch {torch.__version__}: {error}; set REELVEC_DEVICE to another, "
            "such as cuda:0 or cpu"
        ) from error
    return device
