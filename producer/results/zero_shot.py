"""How often tags from text are right: the notebook's tables per window, and the ways to take the
windows of a video together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from db.errors import UsageError
from db.results import judged
from producer.results import figures
from producer.results.figures import Calibration, Floats, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from db.results.judged import Cell, Judged

MEAN_OF_LOGITS, MEAN_OF_PROBABILITIES = "mean of logits", "mean of probabilities"
#: A category with fewer videos says little about a tagger.
FEW_VIDEOS = 10
_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Way:
    """How the answer was found, and how often it was right."""

    by: str
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class ZeroShot:
    """One tagger. `small` counts the videos of each category that has fewer than `FEW_VIDEOS`;
    `unknown` are videos of a category that the tagger does not have. `calibration` is that of the
    stored probabilities, which are the mean over windows, and `confusion` that of the stored tags.
    `missing` says what could not be computed. `videos` are one of `every` so many, drawn by their
    number; `confusion` counts all.
    """

    tagger: str
    videos: int
    categories: int
    unknown: int
    ways: tuple[Way, ...]
    calibration: Calibration
    confusion: tuple[Cell, ...]
    small: dict[str, int]
    missing: str | None
    every: int


def chosen_taggers(connection: Connection, names: Sequence[str]) -> list[Judged]:
    """Those of `names`, or all that have scores and no random weights, as the view `tags` has it.
    Raises `UsageError` for one that has none.
    """
    found = judged.taggers(connection)
    known = [tagger.tagger for tagger in found]
    for name in names:
        if name not in known:
            raise UsageError(
                f"no tagger {name!r} has scored a video; there are {', '.join(known) or 'none'}"
            )
    if names:
        return [tagger for tagger in found if tagger.tagger in names]
    return [tagger for tagger in found if tagger.weights == "pretrained"]


def evaluate(
    connection: Connection,
    taggers: Sequence[Judged],
    tell: Callable[[], None],
    *,
    most: int | None = None,
) -> list[ZeroShot]:
    """Each tagger, by the videos whose category it knows, about `most` of them or all; `tell` hears
    of each.
    """
    found = []
    for known in taggers:
        tagger = replace(known, every=1 if most is None else max(1, -(-known.known // most)))
        if tagger.known:
            found.append(_by_window(connection, tagger) if tagger.windows else
                         _by_mean(connection, tagger))  # fmt: skip
        tell()
    return found


def _by_window(connection: Connection, tagger: Judged) -> ZeroShot:
    given = judged.answers(connection, tagger)
    mean = given.probabilities.mean(axis=1)
    scores = {f"window {w + 1}": given.probabilities[:, w] for w in range(tagger.windows)}
    scores |= {MEAN_OF_LOGITS: mean_of_logits(given.probabilities), MEAN_OF_PROBABILITIES: mean}
    ways = []
    for by, of_categories in scores.items():
        places = figures.ranks(of_categories, given.truth)
        shares = figures.shares(places, given.truth, given.groups, len(tagger.categories))
        ways.append(Way(by, shares))
    calibration = figures.calibration(mean.max(axis=1), places == 1)
    confusion = judged.confusion(connection, tagger)
    return _summary(tagger, given.truth, tuple(ways), calibration, confusion, None)


def mean_of_logits(probabilities: Floats) -> Floats:
    """float32 [n, K] in the order of the mean of logits over windows: a logarithm of a probability
    is its logit less what is the same for all categories of the window.
    """
    return np.asarray(np.log(np.maximum(probabilities, _SMALLEST)).mean(axis=1), np.float32)


def _by_mean(connection: Connection, tagger: Judged) -> ZeroShot:
    given = judged.means(connection, tagger)
    shares = figures.shares(given.ranks, given.truth, given.groups, len(tagger.categories))
    calibration = figures.calibration(given.probability, given.ranks == 1)
    missing = (
        "only the mean of probabilities can be judged: the windows' probabilities are not stored "
        "(of more than 200 categories the best 20 of a video are)"
    )
    ways = (Way(MEAN_OF_PROBABILITIES, shares),)
    confusion = judged.confusion(connection, tagger)
    return _summary(tagger, given.truth, ways, calibration, confusion, missing)


def _summary(
    tagger: Judged,
    truth: figures.Ints,
    ways: tuple[Way, ...],
    calibration: Calibration,
    confusion: tuple[Cell, ...],
    missing: str | None,
) -> ZeroShot:
    counts = np.bincount(truth, minlength=len(tagger.categories))
    small = {
        category: int(count)
        for category, count in zip(tagger.categories, counts, strict=True)
        if 0 < count < FEW_VIDEOS
    }
    return ZeroShot(
        tagger.tagger,
        len(truth),
        len(tagger.categories),
        tagger.unknown,
        ways,
        calibration,
        confusion,
        small,
        missing,
        tagger.every,
    )
