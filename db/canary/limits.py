"""How far two vectors of the same frames are apart, and how far they may be. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

FLOAT32 = "float32"
#: As a part of a vector's length; where they come from is said in `db.canary`.
FLOOR, CEILING = 1e-3, 0.5
MARGIN = 3.0


def distance(made: FloatArray, expected: FloatArray) -> float:
    """The length of the difference as a part of the expected vector's; of rows the largest.

    Both float32, [d] or [w, d]. Unlike an angle it sees a wrong scale, too. Infinite for numbers
    that are not finite and for shapes that differ.
    """
    if made.shape != expected.shape:
        return float("inf")
    there = np.atleast_2d(expected).astype(np.float64)
    gap = np.linalg.norm(np.atleast_2d(made) - there, axis=1) / np.linalg.norm(there, axis=1)
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")


def limit_for(measured: float) -> float:
    """What a worker whose dtype is `measured` from its float32 allows others."""
    return min(CEILING, max(FLOOR, MARGIN * measured))
