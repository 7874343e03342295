"""What `reelvec embed` does: the workers' own pipeline, its results in files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from db.encoders import Tagger
from db.labels import LabelSet
from db.media import MediaFacts
from producer.local.targets import whole_file
from producer.local.vectors import CPU_ENGINE_SECONDS
from producer.local.videos import LocalVideos
from producer.request import checked_backbones, declared_encoder, refuse_unscored
from workers import pipeline
from workers.backbones import registry
from workers.engine.engine import Engine
from workers.pipeline import Owed, VideoResult
from workers.weights import inventory, models_dir


@dataclass
class Embedded:
    """One file's summary: `shapes` and `tags` by backbone, `failures` by backbone."""

    file: str
    facts: MediaFacts
    decode_seconds: float
    device_seconds: float
    written: str | None = None
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    tags: dict[str, tuple[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        told = asdict(self)
        return {"file": told.pop("file"), **told.pop("facts"), **told}


class Embedder(LocalVideos):
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
        super().__init__(files)
        self._arrays = self._targets("--out", out, ".npz")
        chosen = checked_backbones(backbones or (), weights=weights, sampling=sampling)
        label_set = _label_set(labels)
        if labels is not None:
            refuse_unscored(labels, chosen, were_named=bool(backbones), weights=weights)
        self._owed = [
            Owed(
                declared_encoder(name, weights, sampling),
                tuple(
                    Tagger(0, labels.name, 0, labels)
                    for labels in registry.get(name).scored([label_set])
                ),
            )
            for name in chosen
        ]
        where = models_dir.resolve(self._settings)
        for name in chosen:
            inventory.require(where, name, weights)
        self._engine = Engine(device=self._settings.device, models_dir=where)
        self._stack.callback(self._engine.close)

    def __enter__(self) -> Self:
        with ExitStack() as unfinished:
            unfinished.push(self)
            for owed in self._owed:
                self._engine.load(owed.key)
            super().__enter__()
            unfinished.pop_all()
        return self

    def embed(self, number: int) -> Embedded:
        """Run the video of this number and write its .npz. Raises `VideoError`, `UsageError`."""
        result = self._result(number)
        made = _summarise(self.videos[number].shown, result, self._owed)
        if self._arrays:
            with whole_file(self._arrays[number]) as file:
                np.savez(file, **_arrays(result, self._owed))
            made.written = str(self._arrays[number])
        return made

    def arrays(self, number: int) -> dict[str, Any]:
        """What `embed` would write, by key. Raises `VideoError` where any backbone failed."""
        result = self._result(number)
        if result.failures:
            raise next(iter(result.failures.values()))
        return _arrays(result, self._owed)

    def _result(self, number: int) -> VideoResult:
        with self.open(number) as source:
            result = pipeline.embed_video(
                source,
                self._owed,
                engine=self._engine,
                engine_seconds=self._settings.engine_seconds or CPU_ENGINE_SECONDS,
                stop=threading.Event(),
            )
        if result.unsampled:  # there is one policy here
            raise next(iter(result.unsampled.values()))
        return result


def _label_set(labels: Path | None) -> LabelSet:
    from producer import categories

    return (
        categories.label_sets_shipped()[0]
        if labels is None
        else categories.label_sets_from_file(labels)
    )


def _arrays(result: VideoResult, owed: Sequence[Owed]) -> dict[str, Any]:
    frames = next(iter(result.frames.values()))
    arrays: dict[str, Any] = {
        "frame_indices": frames.indices,
        "pts_seconds": frames.pts_seconds,
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
    frames = next(iter(result.frames.values()))
    made = Embedded(
        file=file,
        facts=frames.facts,
        decode_seconds=frames.decode_seconds,
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
