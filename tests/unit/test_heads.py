"""How heads are judged: figures, intervals, calibration and folds, on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from db.errors import UsageError
from db.results.linear import Linear, softmax, unit
from db.results.stacked import Labelled
from producer.results import figures, folds, kinds

NUMBERS = np.random.default_rng(0)


def test_an_interval_holds_what_is_true_and_draws_whole_groups() -> None:
    hits = NUMBERS.random((2000, 1)) < 0.3
    low, high = figures.intervals(hits, np.arange(2000))
    assert low[0] < 0.3 < high[0]
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 2000), rel=0.1)
    # twenty copies of each video are no more evidence than one
    low, high = figures.intervals(np.repeat(hits[:100], 20, axis=0), np.repeat(np.arange(100), 20))
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 100), rel=0.2)


def test_calibration_is_the_mean_distance_of_probability_and_accuracy() -> None:
    confidence = np.array([0.1, 0.55, 0.55, 0.6, 0.95, 1.0], np.float32)
    right = np.array([False, True, False, True, True, True])
    found = figures.calibration(confidence, right)
    assert [(round(b.low, 1), b.videos) for b in found.bins] == [(0.0, 1), (0.5, 3), (0.9, 2)]
    bins = [abs(0.1 - 0), 3 * abs(1.7 / 3 - 2 / 3), 2 * abs(0.975 - 1)]
    assert found.error == pytest.approx(sum(bins) / 6, abs=1e-6)


def test_of_equal_scores_the_later_comes_first() -> None:
    scores = np.array([[0.25, 0.5, 0.25, 0.5]], np.float32)
    for own, rank in ((0, 4), (1, 2), (2, 3), (3, 1)):
        assert figures.ranks(scores, np.array([own])).tolist() == [rank]


def test_a_channel_is_never_in_two_folds() -> None:
    truth = NUMBERS.integers(4, size=300)
    groups = NUMBERS.integers(40, size=300)
    found = Labelled(("a", "b", "c", "d"), np.arange(300), truth, groups)
    fold = folds.split(found, 5)
    assert set(fold) == set(range(5))
    assert len({(group, number) for group, number in zip(groups, fold, strict=True)}) == 40


def test_too_few_categories_are_refused_with_what_each_has() -> None:
    truth = np.repeat([0, 1, 2], [3, 6, 7])
    groups = np.concatenate([np.arange(3), [99] * 6, np.arange(10, 17)])
    with pytest.raises(
        UsageError,
        match="at least 5 videos each, of two groups or more; there are good with 7 videos of 7 "
        "groups, one channel with 6 videos of 1 group, few with 3 videos of 3 groups: label more",
    ):
        folds.kept(Labelled(("few", "one channel", "good"), np.arange(16), truth, groups), 5)
    nothing = np.empty(0, np.int64)
    with pytest.raises(UsageError, match="there are none: label"):
        folds.kept(Labelled((), nothing, nothing, nothing), 5)


def test_categories_that_no_fold_can_judge_are_left_out_and_named() -> None:
    truth = np.repeat([0, 1, 2, 3], [6, 3, 6, 6])
    groups = np.concatenate([np.arange(15), [99] * 6])
    given = Labelled(("a", "few", "c", "one channel"), np.arange(21), truth, groups)
    found, small = folds.kept(given, 5)
    assert found.categories == ("a", "c")
    assert found.truth.tolist() == [0] * 6 + [1] * 6
    assert found.video_ids.tolist() == [*range(6), *range(9, 15)]
    assert [(one.category, one.videos, one.groups) for one in small] == [
        ("few", 3, 3),
        ("one channel", 6, 1),
    ]
    with pytest.raises(
        UsageError, match="at least 7 videos each, of two groups or more; there are a with 6 "
    ):
        folds.kept(given, 7)
    few = Labelled(("a", "c"), np.arange(12), np.arange(12) // 6, np.arange(12) % 3)
    with pytest.raises(UsageError, match="fewer than 5 groups"):
        folds.kept(few, 5)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_of_random_vectors_chance_is_within_the_interval(kind: str) -> None:
    vectors = NUMBERS.standard_normal((400, 16)).astype(np.float32)
    unit(vectors, [16])
    found = Labelled(tuple("abcde"), np.arange(400), np.arange(400) % 5, np.arange(400))
    fold = folds.split(found, 5)
    answers = folds.out_of_fold(kinds.KINDS[kind], vectors, slice(0, 16), found, fold, lambda: None)
    judged = folds.judge(found, answers, ("probe",), kind)
    (share,) = judged.shares
    assert share.chance == share.commonest == 20.0
    assert share.low <= share.chance <= share.high
    assert judged.calibration.error < 0.05, "and it does not claim more"


@pytest.mark.parametrize("categories", [2, 3])
def test_a_prediction_is_scikit_learns_own(categories: int) -> None:
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth = NUMBERS.integers(categories, size=90)
    vectors = (NUMBERS.standard_normal((90, 8)) + np.eye(8)[truth]).astype(np.float32)
    new = NUMBERS.standard_normal((50, 8)).astype(np.float32)

    def learnt(kind: str) -> Linear:
        model = kinds.KINDS[kind](vectors.copy(), truth, categories)
        assert isinstance(model, Linear)
        return model

    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(vectors, truth)
    ours = softmax(learnt("logistic").logits(new))
    np.testing.assert_allclose(ours, theirs.predict_proba(new), atol=1e-4)

    targets = np.eye(categories)[truth]
    model = make_pipeline(StandardScaler(), PLSRegression(categories - 1, scale=False))
    theirs = model.fit(vectors, targets)
    np.testing.assert_allclose(learnt("pls").logits(new), theirs.predict(new), atol=1e-5)

    centroids = NearestCentroid().fit(vectors, truth)
    assert learnt("centroid").logits(new).argmax(axis=1).tolist() == centroids.predict(new).tolist()


def test_a_category_that_a_fold_has_not_seen_is_impossible_there() -> None:
    vectors = NUMBERS.standard_normal((60, 4)).astype(np.float32)
    truth = np.arange(60) % 2 * 2
    for kind in ("logistic", "centroid", "pls"):
        model = kinds.KINDS[kind](vectors.copy(), truth, 3)
        probabilities = softmax(model.logits(vectors))
        assert (probabilities[:, 1] == 0).all()
        assert np.isfinite(probabilities).all()


def test_a_temperature_makes_probabilities_as_right_as_they_say() -> None:
    true = NUMBERS.standard_normal((20_000, 4)).astype(np.float32) * 2
    drawn = (softmax(true).cumsum(axis=1) > NUMBERS.random((20_000, 1))).argmax(axis=1)
    found = folds.temperature(true * 3, drawn)
    assert found == pytest.approx(3, rel=0.05)
    overconfident, calibrated = softmax(true * 3), softmax(true * 3 / np.float32(found))
    errors = [
        figures.calibration(p.max(axis=1), p.argmax(axis=1) == drawn).error
        for p in (overconfident, calibrated)
    ]
    assert errors[0] > 0.1
    assert errors[1] < 0.01


def test_a_head_that_was_never_wrong_is_not_certain_of_everything() -> None:
    truth = np.arange(60) % 3
    logits = 5 * np.eye(3, dtype=np.float32)[truth]
    (p,) = {
        round(float(p), 6)
        for p in softmax(logits / np.float32(folds.temperature(logits, truth))).max(axis=1)
    }
    assert 0.97 < p < 1 - 1 / 200
