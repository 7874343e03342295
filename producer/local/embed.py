"""What `reelvec embed` does: the workers' own pipeline, its results in files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from db import settings
from db.encoders import Tagger
from db.labels import LabelSet
from producer.local.targets import targets, whole_file
from producer.local.videos import named, reading
from producer.request import checked_backbones, declared_encoder
from workers import pipeline
from workers import settings as worker_settings
from workers.backbones import registry
from workers.engine.engine import Engine
from workers.pipeline import Owed, VideoResult
from workers.settings import WorkerSettings
from workers.weights import inventory, models_dir

CPU_ENGINE_SECONDS = 3600.0


@dataclass
class Embedded:
    """One file's summary: `shapes` and `tags` by backbone, `failures` by backbone."""

    file: str
    codec: str
    width_px: int
    height_px: int
    duration_seconds: float
    decode_seconds: float
    device_seconds: float
    written: str | None = None
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    tags: dict[str, tuple[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        return asdict(self)


class Embedder:
    """Engine and one sampler for as many files as are given. Raises `UsageError`,
    `RefusedConfigurationError`.
    """

    def __init__(
        self,
        backbones: Sequence[str] | None,
        *,
        weights: str,
        sampling: str,
        labels: Path | None,
        out: Path | None,
        files: Sequence[str],
    ) -> None:
        worker_settings.refuse_unknown()
        self._settings = settings.load(WorkerSettings)
        self.videos = named(files)
        self._targets = (
            None
            if out is None
            else targets("--out", out, ".npz", [video.uri for video in self.videos])
        )
        chosen = checked_backbones(backbones or (), weights=weights, sampling=sampling)
        label_set = _label_set(labels)
        self._owed = [
            Owed(
                declared_encoder(name, weights, sampling),
                (Tagger(0, label_set.name, 0, label_set),) if registry.get(name).has_text else (),
            )
            for name in chosen
        ]
        where = models_dir.resolve(self._settings)
        for name in chosen:
            inventory.require(where, name, weights)
        self._stack = ExitStack()
        self._engine = Engine(device=self._settings.device, models_dir=where)
        self._stack.callback(self._engine.close)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self._stack.pop_all())
            for owed in self._owed:
                self._engine.load(owed.key)
            self._storage, self._samplers = stack.enter_context(reading(self._settings))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def embed(self, number: int) -> Embedded:
        """Run the video of this number and write its .npz. Raises `VideoError`, `UsageError`."""
        video = self.videos[number]
        with self._storage.open(video.uri) as source:
            result = pipeline.embed_video(
                source,
                self._owed,
                samplers=self._samplers,
                engine=self._engine,
                engine_seconds=self._settings.engine_seconds or CPU_ENGINE_SECONDS,
                stop=threading.Event(),
            )
        if result.damage:
            raise result.damage
        made = _summarise(video.shown, result, self._owed)
        if self._targets is not None:
            with whole_file(self._targets[number]) as file:
                np.savez(file, **_arrays(result, self._owed))
            made.written = str(self._targets[number])
        return made


def _label_set(labels: Path | None) -> LabelSet:
    from producer import categories

    return (
        categories.label_sets_shipped()[0]
        if labels is None
        else categories.label_sets_from_file(labels)
    )


def _arrays(result: VideoResult, owed: Sequence[Owed]) -> dict[str, Any]:
    sample = next(iter(result.samples.values()))
    arrays: dict[str, Any] = {
        "frame_indices": sample.frame_indices,
        "pts_seconds": sample.pts_seconds,
    }
    for item in owed:
        encoding = result.encodings.get(item.encoder.name)
        if encoding is None:
            continue
        name = item.encoder.backbone
        arrays[f"{name}/windows"] = encoding.windows
        arrays[f"{name}/pooled"] = encoding.pooled
        for tagger in item.taggers:
            arrays[f"{name}/probabilities"] = encoding.probabilities[tagger.label_set.digest]
            arrays[f"{name}/prompts"] = np.array(tagger.label_set.prompts)
            arrays[f"{name}/categories"] = np.array(tagger.label_set.categories)
    return arrays


def _summarise(file: str, result: VideoResult, owed: Sequence[Owed]) -> Embedded:
    sample = next(iter(result.samples.values()))
    made = Embedded(
        file=file,
        codec=sample.facts.codec,
        width_px=sample.facts.width_px,
        height_px=sample.facts.height_px,
        duration_seconds=sample.facts.duration_seconds,
        decode_seconds=sample.decode_seconds,
        device_seconds=sum(encoding.device_seconds for encoding in result.encodings.values()),
    )
    for item in owed:
        name = item.encoder.backbone
        if item.encoder.name in result.failures:
            made.failures[name] = str(result.failures[item.encoder.name])
            continue
        encoding = result.encodings[item.encoder.name]
        made.shapes[name] = (encoding.windows.shape[0], encoding.windows.shape[1])
        for tagger in item.taggers:
            mean = encoding.probabilities[tagger.label_set.digest].mean(axis=0)
            best = int(mean.argmax())
            made.tags[name] = (tagger.label_set.categories[best], float(mean[best]))
    return made
