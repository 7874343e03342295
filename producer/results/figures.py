"""How good answers are, as numbers: ranks, hits, what chance would hit, intervals, calibration.
Nothing here knows a database.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KS = (1, 5, 10)
BINS = 10
#: How often videos are drawn anew for an interval, and how much of the draws it holds.
DRAWS, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Share:
    """`percent` of the videos have their category among the first `k`; drawn anew, 95 % of the
    draws lie from `low` to `high`. `chance` is guessing blindly, `commonest` always answering with
    the `k` most frequent categories. All in percent.
    """

    k: int
    percent: float
    low: float
    high: float
    chance: float
    commonest: float


@dataclass(frozen=True)
class Bin:
    """Videos whose answer was given a probability above `low` and up to `high`: their mean
    probability, and the part of them that was right.
    """

    low: float
    high: float
    videos: int
    probability: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """`error` is the expected calibration error: how far probability and accuracy are apart in a
    bin, as a mean over videos (Naeini et al. 2015; Guo et al. 2017).
    """

    error: float
    bins: tuple[Bin, ...]


def ranks(scores: Floats, truth: Ints) -> Ints:
    """The place of `truth` [n] among `scores` [n, K], 1 for the highest. Of equal scores the later
    column comes first, as `numpy.argsort(...)[::-1]` and scikit-learn's `top_k_accuracy_score` have
    it.
    """
    rows = np.arange(len(truth))
    own = scores[rows, truth][:, None]
    later = np.arange(scores.shape[1])[None, :] >= truth[:, None]
    before = (scores > own) | ((scores == own) & later)
    return np.asarray(before.sum(axis=1), np.int64)


def shares(places: Ints, truth: Ints, groups: Ints, categories: int) -> tuple[Share, ...]:
    """For each of `KS` below the number of categories: the part of the videos whose rank is that
    high, in the form of the notebook, percent.
    """
    ks = [k for k in KS if k < categories] or [1]
    hits = places[:, None] <= np.array(ks)
    low, high = intervals(hits, groups)
    frequent = np.sort(np.bincount(truth, minlength=categories))[::-1]
    return tuple(
        Share(
            k,
            float(hits[:, number].mean() * 100),
            float(low[number] * 100),
            float(high[number] * 100),
            k / categories * 100,
            float(frequent[:k].sum() / len(truth) * 100),
        )
        for number, k in enumerate(ks)
    )


def intervals(hits: npt.NDArray[np.bool_], groups: Ints) -> tuple[Doubles, Doubles]:
    """Percentile bootstrap of the means of `hits` [n, F]: low [F] and high [F]. Whole groups are
    drawn, because videos of one channel go right and wrong together.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = int(group.max()) + 1
    sums = np.stack([np.bincount(group, column) for column in hits.T], axis=1)
    counts = np.bincount(group).astype(np.float64)
    numbers = np.random.default_rng(0)
    means = np.empty((DRAWS, hits.shape[1]))
    for draw in range(DRAWS):
        weights = np.bincount(numbers.integers(size, size=size), minlength=size)
        means[draw] = weights @ sums / (weights @ counts)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def calibration(confidence: Floats, right: npt.NDArray[np.bool_]) -> Calibration:
    """Of the probabilities [n] of the answers given, in `BINS` bins of equal width."""
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for place in range(BINS):
        here = number == place
        videos = int(here.sum())
        if videos:
            means = float(confidence[here].mean()), float(right[here].mean())
            bins.append(Bin(place / BINS, (place + 1) / BINS, videos, *means))
    error = sum(b.videos * abs(b.probability - b.right) for b in bins) / len(confidence)
    return Calibration(error, tuple(bins))
