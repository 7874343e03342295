"""The kinds of heads. scikit-learn learns them; what is learnt is arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from db.errors import UsageError
from db.results.linear import Floats, Linear
from producer.results.figures import Ints

NEIGHBOURS = 10
_ITERATIONS = 1000
#: So that a category without a vote is unlikely and not impossible.
_NO_VOTE = 0.01


class Model(Protocol):
    """A head that has learnt."""

    def logits(self, vectors: Floats) -> Floats:
        """float32 [n, K] of vectors float32 [n, d]."""
        ...


def logistic(vectors: Floats, truth: Ints, categories: int) -> Linear:
    """Multinomial logistic regression on standardised vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(copy=False)
    learnt = LogisticRegression(max_iter=_ITERATIONS).fit(scaler.fit_transform(vectors), truth)
    coefficients, intercept = learnt.coef_, learnt.intercept_
    if len(learnt.classes_) == 2:  # of two it says only how much rather it is the second
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercept = np.concatenate([np.zeros_like(intercept), intercept])
    return _spread(learnt.classes_, categories, coefficients, intercept, scaler)


def centroid(vectors: Floats, truth: Ints, categories: int) -> Linear:
    """The nearest mean of a category: -|x - c|^2 / 2, less what is the same for all categories."""
    from sklearn.neighbors import NearestCentroid

    with warnings.catch_warnings():
        # of no concern: deviations within a category are not used
        warnings.filterwarnings("ignore", message="self.within_class_std_dev_")
        learnt = NearestCentroid().fit(vectors, truth)
    intercept = -(learnt.centroids_**2).sum(axis=1) / 2
    return _spread(learnt.classes_, categories, learnt.centroids_, intercept, None)


def pls(vectors: Floats, truth: Ints, categories: int) -> Linear:
    """Partial least squares on standardised vectors, one target a category: the notebook's imports.

    Of two categories `LabelBinarizer` makes one column; here each has its own.
    """
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.preprocessing import LabelBinarizer, StandardScaler

    scaler, binarizer = StandardScaler(copy=False), LabelBinarizer()
    targets = binarizer.fit_transform(truth)
    if targets.shape[1] == 1:
        targets = np.concatenate([1 - targets, targets], axis=1)
    rows, dim = vectors.shape
    learnt = PLSRegression(min(targets.shape[1] - 1, dim, rows - 1), scale=False)
    learnt.fit(scaler.fit_transform(vectors), targets)
    intercept = learnt.predict(np.zeros((1, dim)))[0]
    return _spread(binarizer.classes_, categories, learnt.coef_, intercept, scaler)


class _Voters:
    """The nearest videos of the training set vote, the nearer the more."""

    def __init__(self, vectors: Floats, truth: Ints, categories: int) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        self._categories = categories
        self._learnt = KNeighborsClassifier(
            min(NEIGHBOURS, len(vectors)), weights="distance", algorithm="brute"
        ).fit(vectors, truth)

    def logits(self, vectors: Floats) -> Floats:
        votes = np.zeros((len(vectors), self._categories), np.float32)
        votes[:, self._learnt.classes_] = self._learnt.predict_proba(vectors)
        return np.asarray(np.log(votes + _NO_VOTE), np.float32)


Learn = Callable[[Floats, Ints, int], Model]
#: By name, the default first. Each gets vectors float32 [n, d], which are its own to change, the
#: place of each video's category int64 [n], and how many categories there are.
KINDS = MappingProxyType[str, Learn](
    {"logistic": logistic, "centroid": centroid, "knn": _Voters, "pls": pls}
)
DEFAULT = "logistic"
#: What learns no arrays of its own: it is its training set.
UNSAVED = "knn"


def learner(kind: str) -> Learn:
    """Raises `UsageError` for an unknown kind, and without scikit-learn."""
    from importlib.util import find_spec

    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: there are {', '.join(KINDS)}")
    if find_spec("sklearn") is None:
        raise UsageError("heads need scikit-learn: pip install 'reelvec[results]'")
    return KINDS[kind]


def _spread(
    classes: Ints, categories: int, coefficients: Any, intercept: Any, scaler: Any
) -> Linear:
    """What was learnt of some categories, as a head of all."""
    dim = coefficients.shape[1]
    weights = np.zeros((categories, dim), np.float32)
    constant = np.full(categories, -np.inf, np.float32)
    weights[classes], constant[classes] = coefficients, intercept
    mean, scale = (np.zeros(dim), np.ones(dim)) if scaler is None else (scaler.mean_, scaler.scale_)
    return Linear(mean.astype(np.float32), scale.astype(np.float32), weights, constant)
