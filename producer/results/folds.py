"""How right a head would be: learnt on some of the videos, asked about the others, in folds that
never split a group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from db.results.linear import Floats, softmax
from db.results.stacked import Labelled
from producer.results import figures
from producer.results.figures import Calibration, Ints, Share
from producer.results.kinds import Learn
from producer.wording import listed, plural

#: Videos that are kept of each category and answer: as many as a page shows.
EXAMPLES = 48
#: What "unsure below" may be set to, in the table that shows what it costs.
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Small:
    """A category that is left out, because no fold could both learn it and be asked about it."""

    category: str
    videos: int
    groups: int


@dataclass(frozen=True)
class Sure:
    """With the answers below this probability withheld: the part of the videos that get a tag, and
    the part of those tags that is right, in percent (None: there are none).
    """

    unsure_below: float
    tagged: float
    right: float | None


@dataclass(frozen=True)
class OutOfFold:
    """Answers to n videos by heads that have not seen them nor their groups: `logits` float32
    [n, K], calibrated `probabilities` float32 [n, K], and the `temperature` that all of them
    together ask for. `remarks`: what scikit-learn had to say.
    """

    logits: Floats
    probabilities: Floats
    temperature: float
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """How right a kind of head is on some encoders. `report` is scikit-learn's
    `classification_report` by category; `confusion` [K, K], rows are the sources' categories,
    columns the answers, and `examples` ids of the videos of both, the surest answers first.
    """

    encoders: tuple[str, ...]
    kind: str
    videos: int
    shares: tuple[Share, ...]
    temperature: float
    calibration: Calibration
    sure: tuple[Sure, ...]
    report: dict[str, Any]
    confusion: list[list[int]]
    examples: dict[str, dict[str, list[int]]]
    remarks: tuple[str, ...]


def kept(found: Labelled, folds: int) -> tuple[Labelled, list[Small]]:
    """The videos of categories that have at least `folds` videos, of two groups or more; and the
    categories that are left out. Raises `UsageError` where fewer than two are left, or fewer groups
    than folds.
    """
    pairs = np.unique(np.stack([found.truth, found.groups]), axis=1)[0]
    videos = np.bincount(found.truth, minlength=len(found.categories))
    groups = np.bincount(pairs, minlength=len(found.categories))
    whole = (videos >= folds) & (groups > 1)
    small = [
        Small(found.categories[place], int(videos[place]), int(groups[place]))
        for place in np.flatnonzero(~whole)
    ]
    if whole.sum() < 2:
        raise UsageError(
            f"heads need two categories with at least {folds} videos each, of two groups or more; "
            f"there are {_counted(found.categories, videos, groups)}: label more videos, or give "
            "fewer --folds"
        )
    rows = whole[found.truth]
    if len(np.unique(found.groups[rows])) < folds:
        raise UsageError(
            f"the videos are of fewer than {folds} groups (channels), and a group is never in two "
            "folds: give fewer --folds"
        )
    number = np.cumsum(whole) - 1
    names = tuple(name for name, kept in zip(found.categories, whole, strict=True) if kept)
    return (
        Labelled(names, found.video_ids[rows], number[found.truth[rows]], found.groups[rows]),
        small,
    )


def _counted(categories: Sequence[str], videos: Ints, groups: Ints) -> str:
    """How many videos of how many groups each category has, the largest first."""
    order = np.argsort(-videos, kind="stable")
    counted = [
        f"{categories[place]} with {plural(int(videos[place]), 'video')} of "
        f"{plural(int(groups[place]), 'group')}"
        for place in order
    ]
    return listed(counted) or "none"


def split(found: Labelled, folds: int) -> Ints:
    """The fold of each video, int64 [n]: categories spread evenly, no group in two."""
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.empty(len(found.truth), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for number, (_, asked) in enumerate(
        splitter.split(found.truth[:, None], found.truth, found.groups)
    ):
        fold[asked] = number
    return fold


def out_of_fold(
    learn: Learn,
    vectors: Floats,
    columns: slice,
    found: Labelled,
    fold: Ints,
    tell: Callable[[], None],
) -> OutOfFold:
    """Learn a head for each fold on the videos of the others, on these `columns` of `vectors`
    [n, d]; `tell` hears of each. Temperatures are fitted on the answers of the other folds, too.
    """
    categories = len(found.categories)
    logits = np.empty((len(fold), categories), np.float32)
    said: list[str] = []
    numbers = np.unique(fold)
    for number in numbers:
        asked = fold == number
        with heard(said):
            model = learn(vectors[~asked, columns], found.truth[~asked], categories)
        logits[asked] = model.logits(vectors[asked, columns])
        tell()
    probabilities = np.empty_like(logits)
    for number in numbers:
        asked = fold == number
        its = temperature(logits[~asked], found.truth[~asked])
        probabilities[asked] = softmax(logits[asked] / its)
    return OutOfFold(
        logits, probabilities, temperature(logits, found.truth), tuple(dict.fromkeys(said))
    )


def temperature(logits: Floats, truth: Ints) -> float:
    """By what logits [n, K] must be divided for their softmax to be the most likely (Guo et al.
    2017), if one of n + 2 videos more had another category: else a head that was never wrong would
    be certain of everything (Platt 1999). Videos of categories that a fold has never seen say
    nothing about it.
    """
    from scipy.optimize import minimize_scalar

    known = np.isfinite(logits[np.arange(len(truth)), truth])
    logits, truth = logits[known], truth[known]
    own = logits[np.arange(len(truth)), truth]
    possible = np.isfinite(logits)
    others = np.where(possible, logits, 0).sum(axis=1) / possible.sum(axis=1)
    share = 1 / (len(truth) + 2)
    expected = (1 - share) * own + share * others

    def surprise(log_temperature: float) -> float:
        divisor = np.float32(np.exp(log_temperature))
        highest = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp((logits - highest) / divisor).sum(axis=1))
        return float((total - (expected - highest[:, 0]) / divisor).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(-7, 7), method="bounded").x))


def judge(found: Labelled, answers: OutOfFold, encoders: tuple[str, ...], kind: str) -> Judgement:
    """The figures of these answers."""
    from sklearn.metrics import classification_report, confusion_matrix

    places = figures.ranks(answers.probabilities, found.truth)
    confidence = answers.probabilities.max(axis=1)
    given = answers.probabilities.argmax(axis=1)
    all_of = np.arange(len(found.categories))
    return Judgement(
        encoders=encoders,
        kind=kind,
        videos=len(found.truth),
        shares=figures.shares(places, found.truth, found.groups, len(found.categories)),
        temperature=answers.temperature,
        calibration=figures.calibration(confidence, given == found.truth),
        sure=tuple(_sure(confidence, given == found.truth)),
        report=classification_report(
            found.truth, given, labels=all_of, target_names=found.categories, output_dict=True,
            zero_division=0.0,
        ),
        confusion=confusion_matrix(found.truth, given, labels=all_of).tolist(),
        examples=_examples(found, given, confidence),
        remarks=answers.remarks,
    )  # fmt: skip


def _examples(found: Labelled, given: Ints, confidence: Floats) -> dict[str, dict[str, list[int]]]:
    """By category, then by answer."""
    made: dict[str, dict[str, list[int]]] = {}
    for place in np.argsort(-confidence, kind="stable"):
        of_category = made.setdefault(found.categories[found.truth[place]], {})
        ids = of_category.setdefault(found.categories[given[place]], [])
        if len(ids) < EXAMPLES:
            ids.append(int(found.video_ids[place]))
    return made


def _sure(confidence: Floats, right: npt.NDArray[np.bool_]) -> Iterator[Sure]:
    for threshold in THRESHOLDS:
        tagged = confidence >= threshold
        share = float(right[tagged].mean() * 100) if tagged.any() else None
        yield Sure(threshold, float(tagged.mean() * 100), share)


@contextmanager
def heard(said: list[str]) -> Iterator[None]:
    """Warnings inside become lines of `said`: they are for people, not for a log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said += [str(one.message).strip().splitlines()[0] for one in caught]
