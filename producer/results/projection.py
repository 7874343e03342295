"""From vectors to the two numbers of a map, without a database.

Vectors are brought to length 1 first: what is near is told by the cosine everywhere else, too.
"""

from __future__ import annotations

import logging

import numpy as np

from db.errors import UsageError
from db.results.linear import Floats, unit
from db.results.maps import Axes

METHODS = PCA, PACMAP = "pca", "pacmap"
#: Axes that PaCMAP is given: more change what it makes little, and take memory.
PACMAP_AXES = 50
#: It compares each video with ten near and a few far ones.
PACMAP_LEAST = 32
SEED = 20


class Moments:
    """Mean and covariance of vectors that come in blocks: all that the principal axes need, however
    many vectors there are. float64, [d] and [d, d].
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum = np.zeros(dim)
        self._products = np.zeros((dim, dim))

    def add(self, vectors: Floats) -> None:
        """Of vectors float32 [n, d], which are brought to length 1 in place."""
        unit(vectors, [vectors.shape[1]])
        exact = vectors.astype(np.float64)
        self.count += len(exact)
        self._sum += exact.sum(axis=0)
        self._products += exact.T @ exact

    def axes(self, most: int) -> Axes:
        """The `most` principal axes, those of the largest variance first, each with its largest
        number positive: made anew, a map is not turned over. Behind the d-th they are 0.
        """
        mean = self._sum / self.count
        covariance = self._products / self.count - np.outer(mean, mean)
        variances, found = np.linalg.eigh(covariance)
        found = found.T[::-1][:most]
        largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
        axes = np.zeros((most, len(mean)), np.float32)
        axes[: len(found)] = found * np.sign(largest)
        whole = max(float(variances.sum()), np.finfo(np.float64).tiny)
        share = float(variances[-2:].sum()) / whole
        return Axes(mean.astype(np.float32), axes, min(1.0, max(0.0, share)))


def placed(vectors: Floats, axes: Axes) -> Floats:
    """float32 [n, k] on `axes` of vectors float32 [n, d], brought to length 1 in place."""
    unit(vectors, [vectors.shape[1]])
    return np.asarray((vectors - axes.mean) @ axes.axes.T, np.float32)


def pacmap(reduced: Floats) -> Floats:
    """PaCMAP's float32 [n, 2] of float32 [n, k] (Wang et al., JMLR 22, 2021; the package pacmap).
    The same for the same vectors.

    Raises `UsageError` without the package, and for so few vectors that none is far from another.
    """
    try:
        from pacmap import PaCMAP
    except ImportError as error:
        raise UsageError(
            f"--method pacmap needs more packages ({error}): pip install '.[map]'"
        ) from error
    if len(reduced) < PACMAP_LEAST:
        raise UsageError(
            f"--method pacmap needs {PACMAP_LEAST} videos at least, here are {len(reduced)}: "
            "--method pca takes any number"
        )
    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns of a seed, which is meant
    made = PaCMAP(n_components=2, apply_pca=False, random_state=SEED).fit_transform(reduced)
    return np.asarray(made, np.float32)
