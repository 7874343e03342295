"""One video file to vectors right here: the workers' own pipeline, without servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from workers.sampling import policies


def embed(
    path: str | Path,
    *,
    backbones: Sequence[str] = (),
    weights: str = "pretrained",
    sampling: str = policies.DEFAULT,
    labels: Path | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `reelvec embed` writes into its `.npz`, by the same keys: for each backbone
    `vivit/pooled` float32 [d] and `vivit/windows` float32 [w, d]; of one that reads text also
    `x-clip/probabilities` float32 [w, K] with its `x-clip/categories` [K]; beside them
    `frame_indices` int64 [96] and `pts_seconds` float64 [96] of the frames that were seen.

    It loads the models (needs torch and their weights) and starts a sampler for each call: for
    many videos use `Catalogue.enqueue`. Raises `db.errors.VideoError` for a video that cannot be
    embedded, `UsageError`, `RefusedConfigurationError`.
    """
    from producer.local.embed import Embedder

    with Embedder(
        backbones, weights=weights, sampling=sampling, labels=labels, out=None, files=[str(path)]
    ) as embedder:
        return embedder.arrays(0)
