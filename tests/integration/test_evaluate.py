"""How right tags are: figures equal to the notebook's and to scikit-learn's, chance where there is
nothing to be known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from db import encoders, session
from db.encoders import Encoder
from db.jobs import outcome
from db.jobs.outcome import TaggerRows
from db.labels import LabelSet
from producer.categories import load_shipped
from producer.cli import reelvec
from producer.results import figures
from tests.ledgering import execute
from tests.vectors import bound

NUMBERS = np.random.default_rng(0)
#: What the notebook printed for its three windows of 404 videos.
NOTEBOOK = [
    [8.16831683168317, 19.554455445544555, 32.17821782178218],
    [9.158415841584159, 20.049504950495052, 31.18811881188119],
    [5.445544554455446, 20.049504950495052, 30.198019801980198],
]
SLUGS = tuple(category.slug for category in load_shipped().all)


def with_ranks(ranks: np.ndarray, truth: np.ndarray, categories: int) -> np.ndarray:
    """Probabilities float32 [n, K] among which `truth` has these ranks, and the others any."""
    found = np.empty((len(truth), categories), np.float32)
    for row, (rank, own) in enumerate(zip(ranks, truth, strict=True)):
        others = np.delete(NUMBERS.permutation(categories), 0)
        order = np.insert(
            np.setdiff1d(np.arange(categories), [own])[np.argsort(others)], rank - 1, own
        )
        found[row, order] = np.sort(NUMBERS.random(categories, np.float32))[::-1]
    return found / found.sum(axis=1, keepdims=True)


def ranks_of(videos: int, percents: Sequence[float]) -> np.ndarray:
    """Ranks of which these percents are 1, up to 5, and up to 10."""
    first, fifth, tenth = (round(percent * videos / 100) for percent in percents)
    ranks = [*[1] * first, *[4] * (fifth - first), *[8] * (tenth - fifth), *[30] * (videos - tenth)]
    return NUMBERS.permutation(ranks)


def labelled(
    engine: Engine, categories: Sequence[str | None], groups: Sequence[str | None] = ()
) -> None:
    """Videos 1, 2, ... of these categories."""
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri, category, group_key) SELECT 'file:///' || place, category, g "
        "FROM unnest(CAST(:categories AS text[]), CAST(:groups AS text[])) WITH ORDINALITY AS u (category, g, place)"
        " ORDER BY place",
        categories=list(categories),
        groups=list(groups),
    )


def scored(engine: Engine, encoder: Encoder, labels: LabelSet, windows: np.ndarray) -> None:
    """What a worker writes of videos 1, 2, ...: windows [n, w, K]."""
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, encoder.encoder_id or 0, encoder.name, labels)
        for number, of_video in enumerate(windows, 1):
            rows = TaggerRows(tagger, labels.categories, of_video)
            outcome._copy_tagger_rows(connection, number, uuid4(), (rows,))


@pytest.fixture
def desk(engine: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The commands work on this database."""
    monkeypatch.setenv("DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    return engine


def run(*words: str) -> str:
    result = CliRunner().invoke(reelvec, list(words))
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.stdout


def told(*words: str) -> dict[str, list[dict]]:
    return json.loads(run("evaluate", *words, "--json"))


def percents(way: dict) -> list[float]:
    return [share["percent"] for share in way["shares"]]


def test_the_notebooks_tables_come_out_of_stored_probabilities(desk: Engine) -> None:
    videos = 404
    truth = np.arange(videos) % 47
    windows = np.stack([with_ranks(ranks_of(videos, row), truth, 47) for row in NOTEBOOK], axis=1)
    xclip = bound(desk, "x-clip", 4)
    labelled(desk, [SLUGS[place] for place in truth] + ["pottery", None], [None] * (videos + 2))
    extra = np.full((2, 3, 47), 1 / 47, np.float32)
    scored(desk, xclip, LabelSet("en", SLUGS, SLUGS), np.concatenate([windows, extra]))
    # a set of more than 200 keeps the best 20 by name: the mean over windows alone can be judged
    many = SLUGS + tuple(f"class {number}" for number in range(160))
    rest = np.full((videos, 3, 160), 1e-6, np.float32)
    scored(desk, xclip, LabelSet("many", many, many), np.concatenate([windows, rest], axis=2))

    en, wide = told()["zero_shot"]
    by = {way["by"]: percents(way) for way in en["ways"]}
    assert [by[f"window {number}"] for number in (1, 2, 3)] == NOTEBOOK
    assert (en["tagger"], en["videos"], en["unknown"]) == ("x-clip/en", videos, 1)
    assert en["small"] == dict(zip(SLUGS, np.bincount(truth).tolist(), strict=True)), (
        "8 or 9 of each"
    )
    chances = [[share["chance"] for share in way["shares"]] for way in en["ways"]]
    assert chances == [pytest.approx([100 / 47, 500 / 47, 1000 / 47])] * 5

    from sklearn.metrics import top_k_accuracy_score

    means = {
        "mean of logits": np.log(windows).mean(axis=1),
        "mean of probabilities": windows.mean(axis=1),
    }
    for name, scores in means.items():
        expected = [
            100 * top_k_accuracy_score(truth, scores, k=k, labels=np.arange(47)) for k in (1, 5, 10)
        ]
        assert by[name] == pytest.approx(expected), name
    assert by["mean of logits"] != by["mean of probabilities"], "the test tells them apart"

    assert [way["by"] for way in wide["ways"]] == ["mean of probabilities"]
    assert percents(wide["ways"][0]) == by["mean of probabilities"]
    assert "best 20" in wide["missing"]
    assert told("--tagger", "x-clip/many")["zero_shot"] == [wide]

    lines = run("evaluate").splitlines()
    assert lines[1].startswith("x-clip/en\twindow 1\t404\t8.17 (")
    assert all("; 2.13)" in line for line in lines[1:6]), "chance beside every figure"
    refused = CliRunner().invoke(reelvec, ["evaluate", "--tagger", "x-clip/fr"])
    assert "there are x-clip/en, x-clip/many" in str(refused.exception)


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
