"""A trained head's arithmetic: what makes probabilities of vectors, wherever that is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Linear:
    """`mean` and `scale` float32 [d] of a standard scaler, `coefficients` float32 [K, d],
    `intercept` float32 [K]; -inf for a category that it has never seen.
    """

    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: Floats

    def logits(self, vectors: Floats) -> Floats:
        """float32 [n, K] of `vectors` float32 [n, d], which `unit` has prepared."""
        scaled = (vectors - self.mean) / self.scale
        return np.asarray(scaled @ self.coefficients.T + self.intercept, np.float32)


def unit(vectors: Floats, dims: Sequence[int]) -> None:
    """Give each encoder's part of `vectors` [n, sum of dims] the length 1, in place: encoders are
    compared by cosine, and none outweighs another by its scale.
    """
    start = 0
    for dim in dims:
        part = vectors[:, start : start + dim]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        start += dim


def softmax(logits: Floats) -> Floats:
    """Probabilities of the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)
