"""A batch's numbers to the results of its videos, and its errors to theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import ReelvecError, RefusedConfigurationError, VideoError
from workers.backbones.base import Encoded, FloatArray
from workers.engine.encoding import STAGE, EncodeRequest, Encoding


def outcome(
    request: EncodeRequest, encoded: Encoded, rows: slice, dtype: str, seconds: float
) -> Encoding | VideoError:
    """One video's rows of a batch. Numbers that cannot be stored or searched are an error, never a
    row.
    """
    vectors = _rows(encoded.embeddings, rows)
    probabilities = {
        labels.digest: _rows(encoded.probabilities[labels.digest], rows)
        for labels in request.label_sets
        if labels.digest in encoded.probabilities
    }
    context = None
    if request.keep_context and encoded.context is not None:
        context = _rows(encoded.context, rows, np.float16)
    for what, numbers in (
        ("vector", vectors),
        *(("probabilities", part) for part in probabilities.values()),
        *(("context", part) for part in (context,) if part is not None),
    ):
        if not np.isfinite(numbers).all():
            return VideoError(
                "nonfinite", f"{request.key}: a window's {what} is not finite", stage=STAGE
            )
    pooled = _pool(vectors)
    if not (np.linalg.norm(vectors, axis=1).all() and np.linalg.norm(pooled)):
        return VideoError("nonfinite", f"{request.key}: a vector has length zero", stage=STAGE)
    return Encoding(vectors, pooled, probabilities, dtype, seconds, context)


def _rows(numbers: Any, rows: slice, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Rows of a batch's results as numbers of their own, which keep nothing else of the batch."""
    part = numbers[rows]
    return np.array(part if isinstance(part, np.ndarray) else part.numpy(), dtype)


def _pool(vectors: FloatArray) -> FloatArray:
    """The mean over windows, float32 [d]."""
    mean: FloatArray = vectors.mean(axis=0, dtype=np.float32)
    return mean


def join(parts: Sequence[Encoding]) -> Encoding:
    """One video's result from those of parts of its windows."""
    vectors = np.concatenate([part.windows for part in parts])
    probabilities = {
        digest: np.concatenate([part.probabilities[digest] for part in parts])
        for digest in parts[0].probabilities
    }
    dtypes = {part.dtype for part in parts}
    dtype = dtypes.pop() if len(dtypes) == 1 else "bfloat16"  # the coarser one
    contexts = [part.context for part in parts if part.context is not None]
    return Encoding(
        vectors,
        _pool(vectors),
        probabilities,
        dtype,
        sum(part.device_seconds for part in parts),
        np.concatenate(contexts) if contexts else None,
    )


def as_reelvec_error(error: Exception) -> ReelvecError:
    """What a failed batch means for its videos."""
    if isinstance(error, ReelvecError):
        return error
    text = f"{type(error).__name__}: {error}"
    # torch's own class, MemoryError, or the plain RuntimeError of torch's allocator on the CPU
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "allocate memory" in text:
        return VideoError("device_out_of_memory", text, stage=STAGE)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return RefusedConfigurationError(
            f"the models cannot be compiled here ({text.splitlines()[0]}); REELVEC_COMPILE=off "
            "computes without that, slower"
        )
    return VideoError("device_error", text, stage=STAGE)
