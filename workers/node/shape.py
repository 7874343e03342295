"""The shape of a worker: how many samplers, videos in flight and videos in a batch. Pure: a machine
in, numbers out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: What torch and the models take on the host: the notebook's four in float32 are 2 GB, the rest
#: is torch and activations.
BASE_BYTES = 3 << 30
#: A sampler's process: 120 MB with 1080p, 290 MB with 4K (bench/RESULTS.md); with 8K much more, but
#: that is rare.
SAMPLER_BYTES = 300 << 20
#: A video in flight: its frames (14.45 MB) in the memory shared with the sampler and copied for the
#: engine.
VIDEO_BYTES = 30 << 20

#: What a process takes that only samples: Python, and what the pool holds of its processes.
SAMPLING_BASE_BYTES = 300 << 20
PACK_BATCHES = 3

#: What the largest batch of a backbone holds: 12 windows of ViViT, 24 of VideoMAE, 48 of
#: TimeSformer.
GPU_VIDEOS = 4
#: Cards with less memory than this get smaller batches: 12 windows of ViViT need 1.5 GB (bfloat16)
#: beside the weights of all models, their workspace and whatever else is on a small card. What is
#: sold as 16 or 8 GB reports a little less.
SMALL_CARD_BYTES, TINY_CARD_BYTES = 15_000_000_000, 7_500_000_000


@dataclass(frozen=True)
class Shape:
    """What one worker process is made of. `cores` is its share of the machine's; `reason` says why
    so many samplers.

    `videos_per_batch` is the most a batch may hold; a small card takes less (`videos_per_batch`,
    below).
    """

    samplers: int
    videos_per_batch: int
    cores: float
    reason: str

    @property
    def in_flight(self) -> int:
        """Videos worked on at once: every sampler has its next one waiting while the engine holds a
        batch.
        """
        return 2 * self.samplers + self.videos_per_batch

    @property
    def pack_slots(self) -> int:
        """Packs of frames worked on at once: a batch is on the device, one ready, one is read."""
        return PACK_BATCHES * self.videos_per_batch


def choose(
    *,
    cores: float,
    memory_bytes: int,
    processes: int,
    on_gpu: bool,
    samplers: int | None = None,
    videos_per_batch: int | None = None,
    only_samples: bool = False,
) -> Shape:
    """The shape of each of `processes` that share a machine; `samplers` and `videos_per_batch`
    where somebody chose them.

    A sampler keeps one core busy; one core is left to the engine and the task threads, none where
    there is no engine (`only_samples`). Memory may allow fewer samplers.
    """
    batch = 0 if only_samples else videos_per_batch or (GPU_VIDEOS if on_gpu else 1)
    base_bytes = SAMPLING_BASE_BYTES if only_samples else BASE_BYTES
    spared = 0 if only_samples else 1
    share = cores / processes
    if samplers is not None:
        return Shape(samplers, batch, share, "REELVEC_SAMPLERS")
    by_cores = max(1, math.floor(share) - spared)
    room_bytes = memory_bytes / processes - base_bytes - batch * VIDEO_BYTES
    by_memory = max(1, math.floor(room_bytes / (SAMPLER_BYTES + 2 * VIDEO_BYTES)))
    of_all = "" if processes == 1 else f"{share:g} of "
    if by_memory < by_cores:
        memory = f"{memory_bytes / processes / (1 << 30):.1f} GiB of memory"
        return Shape(
            by_memory, batch, share, f"{memory}; {of_all}{_cores(cores)} would feed {by_cores}"
        )
    return Shape(
        by_cores,
        batch,
        share,
        f"{of_all}{_cores(cores)}{' less one' if spared and share >= 2 else ''}",
    )


def videos_per_batch(gpu_memory_bytes: int | None) -> int:
    """Videos whose windows one batch may hold. None: the CPU, where a larger batch only takes
    memory.
    """
    if gpu_memory_bytes is None or gpu_memory_bytes < TINY_CARD_BYTES:
        return 1
    return GPU_VIDEOS // 2 if gpu_memory_bytes < SMALL_CARD_BYTES else GPU_VIDEOS


def describe(shape: Shape, batch: int) -> str:
    """What a worker says of itself when it is ready; `batch` is what its card allows."""
    parts = [
        f"{_count(shape.samplers, 'sampler')} ({shape.reason})",
        f"{shape.in_flight} videos in flight",
        *([f"batches of {_count(batch, 'video')}"] if batch else ["frames for other workers"]),
    ]
    how = "" if shape.reason == "REELVEC_SAMPLERS" else "; REELVEC_SAMPLERS changes it"
    return ", ".join(parts) + how


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cores(cores: float) -> str:
    return f"{cores:g} core" if cores == 1 else f"{cores:g} cores"
