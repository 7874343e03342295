"""The same work by Ray Data and by Daft: our decoder on their workers, our models behind it,
results to a list.

Neither has a ledger or a database to write to, so that they do a little less. The clock starts with
the first decode, once the models are loaded, and ends with the last vector. One core is left to the
models, as a worker leaves it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.pipeline_worker import Work
from producer.categories import label_sets_shipped
from workers.backbones import registry
from workers.backbones.base import Loaded, Weights
from workers.sampling.inside.decode import sample
from workers.sampling.plan import SHAPE

#: Videos of one call of the models: on the CPU larger batches only take memory.
BATCH_ON_CPU, BATCH_ON_GPU = 1, 4
LOAD_SECONDS = 600
BEGAN, READY = "began", "ready"


class Models:
    """All backbones of the work on one device."""

    def __init__(self, work: Work) -> None:
        self._device = "cuda:0" if work.on_gpu else "cpu"
        self._loaded: list[Loaded] = [
            registry.module(name).load(Weights(work.weights), self._device)
            for name in work.backbones
        ]
        for loaded in self._loaded:
            if loaded.tower is not None:
                loaded.tower.settle()
        self.encode(np.zeros((1, *SHAPE), np.uint8))

    def encode(self, videos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """float32 [n, all dimensions]: the pooled vectors of every backbone side by side."""
        import torch

        made = []
        for loaded in self._loaded:
            spec = loaded.spec
            windows = np.ascontiguousarray(videos).reshape(
                -1, spec.frames_per_window, *videos.shape[2:]
            )
            labels = label_sets_shipped() if spec.has_text else ()
            size = spec.batch_windows if self._device != "cpu" else spec.windows_per_video
            parts = torch.from_numpy(windows).split(size)
            vectors = np.concatenate(
                [loaded.encode(part.to(self._device), labels).embeddings for part in parts]
            )
            made.append(vectors.reshape(len(videos), -1, loaded.dim).mean(axis=1))
        return np.concatenate(made, axis=1)


def mark(path: Path) -> None:
    """Write the time into a file that is not there yet."""
    with suppress(FileExistsError), path.open("x") as file:
        file.write(str(time.time()))


def decode(path: str, marks: Path) -> npt.NDArray[np.uint8]:
    mark(marks / BEGAN)
    with Path(path).open("rb") as file:
        return sample(file, "notebook").pixels


def figures(marks: Path, finished: list[float]) -> dict[str, float]:
    return {
        "videos_per_second": len(finished) / (max(finished) - float((marks / BEGAN).read_text()))
    }


def ray_data(work: Work, marks: Path) -> dict[str, float]:
    """Videos per second: one task actor per sampler, one actor with the models."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    import ray

    class Decoder:
        def __init__(self) -> None:
            os.environ["OPENBLAS_NUM_THREADS"] = "1"

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            give_up_at = time.time() + LOAD_SECONDS
            while not (marks / READY).exists() and time.time() < give_up_at:
                time.sleep(0.05)
            return {"frames": decode(row["item"], marks)}

    class Encoder:
        def __init__(self) -> None:
            self._models = Models(work)
            mark(marks / READY)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            vectors = self._models.encode(batch["frames"])
            return {"vector": vectors, "finished": np.full(len(vectors), time.time())}

    ray.init(
        num_cpus=work.samplers + 1,
        num_gpus=int(work.on_gpu),
        include_dashboard=False,
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        files = ray.data.from_items(
            [str(path) for path in work.files], override_num_blocks=len(work.files)
        )
        frames = files.map(
            Decoder, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=work.samplers)
        )
        vectors = frames.map_batches(
            Encoder,
            batch_size=BATCH_ON_GPU if work.on_gpu else BATCH_ON_CPU,
            num_cpus=1,
            num_gpus=int(work.on_gpu),
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        rows = vectors.take_all()
    finally:
        ray.shutdown()
    return figures(marks, [row["finished"] for row in rows])


def daft_frames(work: Work, marks: Path) -> dict[str, float]:
    """Videos per second: a decoding process per sampler, the models in this process, loaded
    beforehand.
    """
    os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}
    import daft

    models = Models(work)

    @daft.cls(use_process=True, max_concurrency=work.samplers)
    class Decoder:
        @daft.method(return_dtype=daft.DataType.tensor(daft.DataType.uint8(), SHAPE))
        def frames(self, path: str) -> npt.NDArray[np.uint8]:
            return decode(path, marks)

    @daft.cls(use_process=False, max_concurrency=1)
    class Encoder:
        @daft.method.batch(return_dtype=daft.DataType.float64())
        def finished(self, frames: Any) -> list[float]:
            videos = np.stack([np.asarray(one) for one in frames.to_pylist()])
            models.encode(videos)
            return [time.time()] * len(videos)

    frame = daft.from_pydict({"path": [str(path) for path in work.files]}).into_batches(1)
    frame = frame.select(Decoder().frames(daft.col("path")).alias("frames"))
    if work.on_gpu:
        frame = frame.into_batches(BATCH_ON_GPU)
    rows = frame.select(Encoder().finished(daft.col("frames")).alias("finished")).to_pydict()
    return figures(marks, rows["finished"])


#: By the package that has to be installed.
RIVALS: dict[str, Callable[[Work, Path], dict[str, float]]] = {"ray": ray_data, "daft": daft_frames}
