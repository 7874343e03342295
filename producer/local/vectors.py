"""The vector of a video or picture that is not in the catalogue, computed right here: what a search
by a file asks with, on the command line and on the page.
"""

from __future__ import annotations

import threading
from typing import Self

from db.encoders import Encoder
from producer import same_weights
from producer.doctor import packages
from workers import pipeline
from workers.backbones import registry
from workers.backbones.base import FloatArray
from workers.engine.engine import Engine
from workers.pipeline import Owed
from workers.sampling.frames import FrameSource
from workers.settings import WorkerSettings
from workers.weights import models_dir

CPU_ENGINE_SECONDS = 3600.0


class FileVectors:
    """Models are loaded once and kept. `device` as for `Engine`. Raises `UsageError` where packages
    are missing.
    """

    def __init__(self, chosen: WorkerSettings, *, device: str | None) -> None:
        packages.require("searching by a file", *packages.NEEDED)
        self._license = chosen.license
        self._engine = Engine(device=device, models_dir=models_dir.resolve(chosen))
        self._engine_seconds = chosen.engine_seconds or CPU_ENGINE_SECONDS

    def pooled(self, source: FrameSource, stored: Encoder, stop: threading.Event) -> FloatArray:
        """float32 [dim], of weights that are those of the stored vectors.

        Raises `VideoError` for a file that cannot be embedded, `RefusedConfigurationError` for
        weights that are not here, or others, or not allowed by REELVEC_LICENSE, `Cancelled` once
        `stop` is set.
        """
        registry.refuse_license(stored.backbone, self._license)
        owed = Owed(stored)
        same_weights.refuse_others(stored, self._engine.load(owed.key).digest)
        result = pipeline.embed_video(
            source, [owed], engine=self._engine, engine_seconds=self._engine_seconds, stop=stop
        )
        for error in (*result.unsampled.values(), *result.failures.values()):
            raise error
        vector: FloatArray = result.encodings[stored.name].pooled
        return vector

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
