"""How right tags are: figures equal to the notebook's and to scikit-learn's, chance where there is
nothing to be known.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
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
from tests.ledgering import execute
from tests.vectors import as_stored, bound, written

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


def test_the_notebooks_tables_come_out_of_stored_probabilities(
    desk: Engine, tmp_path: Path
) -> None:
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

    given = windows.mean(axis=1).argmax(axis=1)
    expected = {
        (SLUGS[of], SLUGS[tag]): int(((truth == of) & (given == tag)).sum())
        for of, tag in zip(truth, given, strict=True)
    }
    confusion = {(cell["category"], cell["tag"]): cell["videos"] for cell in en["confusion"]}
    assert confusion == expected
    assert sum(cell["videos"] for cell in wide["confusion"]) == videos
    table = tmp_path / "mistakes.csv"
    run("evaluate", "--tagger", "x-clip/en", "--confusion", str(table))
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {(row["category"], row["tag"]): int(row["videos"]) for row in rows} == expected
    assert {row["tagger"] for row in rows} == {"x-clip/en"}

    lines = run("evaluate").splitlines()
    assert lines[0].split("\t")[3:] == [f"top {k}, % (95 % interval; guessing)" for k in (1, 5, 10)]
    assert lines[1].startswith("x-clip/en\twindow 1\t404\t8.17 (")
    assert all("; 2.13)" in line for line in lines[1:6]), "chance beside every figure"
    refused = CliRunner().invoke(reelvec, ["evaluate", "--tagger", "x-clip/fr"])
    assert "there are x-clip/en, x-clip/many" in str(refused.exception)


def test_random_weights_are_judged_only_by_name(desk: Engine) -> None:
    labelled(desk, ["films", "pets"], [None, None])
    labels = LabelSet("en", ("films", "pets"), ("films", "pets"))
    windows = np.full((2, 3, 2), 0.5, np.float32)
    scored(desk, bound(desk, "x-clip-random-tiny", 4), labels, windows)
    execute(desk, "UPDATE reelvec.encoders SET weights = 'random-tiny'")
    refused = CliRunner().invoke(reelvec, ["evaluate"])
    assert "of random weights" in str(refused.exception)
    (named,) = told("--tagger", "x-clip-random-tiny/en")["zero_shot"]
    assert named["videos"] == 2
    scored(desk, bound(desk, "x-clip", 4), labels, windows)
    assert [one["tagger"] for one in told()["zero_shot"]] == ["x-clip/en"]


def clustered(engine: Engine) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """Videos of three categories by 24 channels, and vectors of two encoders that know something of
    both: a channel's videos are alike. One more category has three videos, another is of one
    channel.
    """
    channel = np.repeat(np.arange(24), 5)
    truth = channel % 3
    names = ["cars", "films", "pets"]
    categories = [names[place] for place in truth] + ["rare"] * 3 + ["serial"] * 6
    groups = [f"channel {number}" for number in channel] + [None] * 3 + ["one studio"] * 6
    labelled(engine, [*categories, None], [*groups, None])
    made, numbers = {}, np.random.default_rng(0)
    for name, dim in (("probe", 8), ("vivit", 6)):
        of_category = numbers.standard_normal((3, dim)) * 0.7
        of_channel = numbers.standard_normal((24, dim))
        vectors = (
            of_category[truth] + of_channel[channel] + 0.3 * numbers.standard_normal((120, dim))
        )
        rest = numbers.standard_normal((10, dim))
        made[name] = as_stored(3 * np.concatenate([vectors, rest]))
        written(engine, bound(engine, name, dim), made[name])
    return made, truth, groups


def test_heads_are_scikit_learns_written_out_by_hand(desk: Engine, tmp_path: Path) -> None:
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, classification_report, confusion_matrix
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import LabelBinarizer, StandardScaler

    made, truth, groups = clustered(desk)
    names = np.array(["cars", "films", "pets"])[truth]
    parts = [
        made[name][:120] / np.linalg.norm(made[name][:120], axis=1)[:, None]
        for name in ("probe", "vivit")
    ]
    both = np.concatenate(parts, axis=1)

    class PLS:
        """As the notebook's imports are meant."""

        def fit(self, vectors: np.ndarray, given: np.ndarray) -> PLS:
            self.scaler, self.labels = StandardScaler(), LabelBinarizer()
            targets = self.labels.fit_transform(given)
            self.model = PLSRegression(n_components=2, scale=False)
            self.model.fit(self.scaler.fit_transform(vectors), targets)
            return self

        def predict(self, vectors: np.ndarray) -> np.ndarray:
            return self.labels.classes_[
                self.model.predict(self.scaler.transform(vectors)).argmax(axis=1)
            ]

    by_hand = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "centroid": NearestCentroid(),
        "knn": KNeighborsClassifier(10, weights="distance"),
        "pls": PLS(),
    }
    table = tmp_path / "mistakes.csv"
    found = told("--encoder", "probe", "--encoder", "vivit", *(word for kind in by_hand for word in ("--kind", kind)),
                 "--confusion", str(table))  # fmt: skip
    assert found["categories"] == ["cars", "films", "pets"]
    assert found["left_out"] == [
        {"category": "rare", "videos": 3, "groups": 3}, {"category": "serial", "videos": 6, "groups": 1}
    ]  # fmt: skip
    spaces = {("probe",): parts[0], ("vivit",): parts[1], ("probe", "vivit"): both}
    splits = list(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(both, names, groups[:120])
    )
    assert len(found["heads"]) == len(spaces) * len(by_hand)
    for judged in found["heads"]:
        vectors, head = spaces[tuple(judged["encoders"])], by_hand[judged["kind"]]
        given = np.empty_like(names)
        for learnt, asked in splits:
            given[asked] = head.fit(vectors[learnt], names[learnt]).predict(vectors[asked])
        what = judged["kind"], judged["encoders"]
        assert percents(judged) == [pytest.approx(100 * accuracy_score(names, given))], what
        assert judged["confusion"] == confusion_matrix(names, given).tolist(), what
        report = classification_report(names, given, output_dict=True)
        assert judged["report"].keys() == report.keys()
        for name, figures in report.items():
            assert judged["report"][name] == pytest.approx(figures), (what, name)
        assert judged["shares"][0]["chance"] == pytest.approx(100 / 3)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[0]["tagger"] == "logistic on probe" or int(rows[0]["videos"]) >= int(
        rows[1]["videos"]
    )
    assert sum(int(row["videos"]) for row in rows) == 120 * 12
    assert max(percents(judged)[0] for judged in found["heads"]) < 97, "the test asks something"
