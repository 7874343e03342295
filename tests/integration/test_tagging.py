"""Heads in the database, and the tags that they give to videos."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

import reelvec_origin
from db import encoders, session
from db.administration import invariants
from db.errors import RefusedConfigurationError, UsageError
from db.jobs import outcome
from db.jobs.outcome import Outcome, TaggerRows
from db.jobs.selection import Selection
from db.results import heads
from producer.cli import reelvec
from producer.results import tagging
from tests import ledgering, logins
from tests.ledgering import execute, one
from tests.vectors import as_stored, bound, written

LABELLED, VIDEOS, WITHOUT = 60, 100, 4
TRUTH = np.arange(VIDEOS) % 3
NAMES = np.array(["cars", "films", "pets"])


def run(*words: str) -> str:
    result = CliRunner().invoke(reelvec, list(words))
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.stdout


@pytest.fixture
def made(
    engine: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, np.ndarray]]:
    """100 videos with vectors of two encoders, the last of them of one only; 60 have a category. The
    commands run with an enqueuer's rights. Words have tagged all of them as cars.
    """
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri, category) SELECT 's3://b/' || place, category "
        "FROM unnest(CAST(:categories AS text[])) WITH ORDINALITY AS u (category, place) ORDER BY place",
        categories=[*NAMES[TRUTH[:LABELLED]], *[None] * (VIDEOS - LABELLED)],
    )
    vectors, numbers = {}, np.random.default_rng(0)
    for name, dim in (("x-clip", 8), ("vivit", 5)):
        clusters = 0.8 * numbers.standard_normal((3, dim))[TRUTH]
        vectors[name] = (clusters + numbers.standard_normal((VIDEOS, dim))).astype(np.float32)
        vectors[name] = as_stored(vectors[name])
        count = VIDEOS if name == "x-clip" else VIDEOS - WITHOUT
        written(engine, bound(engine, name, dim), vectors[name][:count])
    with session.transaction(engine) as connection:
        xclip = encoders.known_encoder(connection, "x-clip")
        labels = ledgering.LabelSet("en", tuple(NAMES), tuple(NAMES))
        tagger = encoders.declare_tagger(connection, xclip.encoder_id or 0, "x-clip", labels)
        sure = np.array([[1, 0, 0]] * 3, np.float32)
        for number in range(1, VIDEOS + 1):
            outcome._copy_tagger_rows(
                connection, number, uuid4(), (TaggerRows(tagger, labels.categories, sure),)
            )
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    with logins.made(engine.url.render_as_string(hide_password=False)) as addresses:
        monkeypatch.setenv("DATABASE_URL", addresses["desk"])
        yield vectors


COMMAND = re.compile(r"^ {4}\$ reelvec (.*)$", re.MULTILINE)
BOTH = ("--encoder", "x-clip", "--encoder", "vivit")


def saved(*words: str) -> str:
    return str(json.loads(run("evaluate", *BOTH, *words, "--json"))["saved"])


def told(*words: str) -> str:
    """The last line of stderr."""
    result = CliRunner().invoke(reelvec, list(words))
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.stderr.splitlines()[-1]


def tagged(*words: str) -> dict[str, int]:
    return json.loads(run("tag", *words, "--json"))


def broken(engine: Engine) -> set[str]:
    names = {
        "number of scores",
        "probabilities",
        "scores without a vector",
        "tags of older vectors",
    }
    rules = [rule for rule in invariants.INVARIANTS if rule.name in names]
    assert len(rules) == 4
    return {rule.name for rule in rules if invariants.check(engine, rule, timeout_seconds=20).count}


def rows(engine: Engine, statement: str) -> list[tuple]:
    with session.transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_videos_that_failed_are_not_said_to_be_enqueued_again(
    engine: Engine, made: dict[str, np.ndarray]
) -> None:
    saved("--save", "genres")
    line = "4 videos not tagged, for want of a vector of x-clip and vivit"
    enqueued = "enqueue --backbone makes it"
    assert told("tag", "--head", "genres") == f"{line}: {enqueued}, then run this again"
    failed = "reelvec status --failed says why"
    for last, said in (
        (
            97,
            f"{line}; 1 of them failed, and {failed}: {enqueued} for the others, then run this again",
        ),
        (100, f"{line}; 4 of them failed, and {failed}"),
    ):
        execute(
            engine,
            "INSERT INTO reelvec.jobs (video_id, encoders, state, error_code) SELECT i, '{1}', 'failed', "
            f"'truncated' FROM generate_series(97, {last}) i ON CONFLICT DO NOTHING",
        )
        assert told("tag", "--head", "genres") == said


TAGS_OF_HEAD = """SELECT video_id, s.probabilities FROM reelvec.scores s JOIN reelvec.heads USING (tagger_id)
WHERE head = 'genres' AND version = 1 ORDER BY 1"""
WRITTEN = "SELECT video_id, tagger_id, created_at, xmin::text FROM reelvec.scores ORDER BY 1, 2"


def test_a_head_is_learnt_saved_and_tags_all_that_have_its_vectors(
    engine: Engine, made: dict[str, np.ndarray]
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert saved("--save", "genres") == "genres@1"
    execute(engine, "UPDATE reelvec.heads SET judgement = '{}'")
    assert saved("--save", "genres") == "genres@1", "the same head is no new version"
    (kept,) = ledgering.read(engine, heads.kept)
    confusion = np.array(kept.judgement["confusion"])
    assert confusion.sum() == kept.videos, "and it is judged anew"
    examples = one(engine, "SELECT judgement -> 'examples' FROM reelvec.heads")
    counts = {
        (category, tag): len(ids) for category, by in examples.items() for tag, ids in by.items()
    }
    assert counts == {
        (kept.categories[row], kept.categories[column]): min(confusion[row, column], 48)
        for row, column in np.argwhere(confusion)
    }
    assert saved("--save", "genres", "--kind", "pls") == "genres@2"
    assert one(engine, "SELECT count(*) FROM reelvec.heads") == 2

    found = tagged("--head", "genres@1")
    assert (found["tagged"], found["already"], found["without_vectors"]) == (96, 0, WITHOUT)
    assert found["failed"] == 0
    unit = np.concatenate([v / np.linalg.norm(v, axis=1)[:, None] for v in made.values()], axis=1)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    theirs.fit(unit[:LABELLED], NAMES[TRUTH[:LABELLED]])
    temperature = one(engine, "SELECT temperature FROM reelvec.heads WHERE version = 1")
    logits = theirs.decision_function(unit[: VIDEOS - WITHOUT]) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = raised / raised.sum(axis=1, keepdims=True)
    ours = rows(engine, TAGS_OF_HEAD)
    assert [video_id for video_id, _ in ours] == list(range(1, 97))
    np.testing.assert_allclose([p for _, p in ours], expected, atol=1e-4)
    assert broken(engine) == set()

    best = dict(rows(engine, "SELECT video_id, tag FROM reelvec.best_tags"))
    answers = NAMES[expected.argmax(axis=1)].tolist()
    assert [best[number] for number in range(1, 97)] == answers, "the head speaks before words"
    assert [best[number] for number in range(97, 101)] == ["cars"] * WITHOUT, (
        "words where it cannot"
    )

    before = rows(engine, WRITTEN)
    again = tagged("--head", "genres@1")
    assert (again["tagged"], again["already"]) == (0, 96)
    assert rows(engine, WRITTEN) == before, "twice changes nothing"
    assert tagged("--head", "genres", "--category", "pets")["tagged"] == LABELLED // 3, "the newest"


def test_below_its_threshold_a_head_gives_no_tag_and_nobody_else_speaks(
    engine: Engine, made: dict[str, np.ndarray]
) -> None:
    saved("--save", "genres")
    tagged("--head", "genres")
    (middle,) = rows(engine, "SELECT percentile_disc(0.3) WITHIN GROUP (ORDER BY s.probability) FROM reelvec.scores s"
                             " JOIN reelvec.heads USING (tagger_id)")[0]  # fmt: skip
    before = rows(engine, WRITTEN)
    saved("--save", "others")
    found = tagged("--head", "genres", "--unsure-below", repr(middle))
    assert len(rows(engine, "SELECT FROM reelvec.heads WHERE unsure_below > 0")) == 1, "its own"
    assert found["tagged"] == 0
    assert 20 <= found["unsure"] <= 29
    assert rows(engine, WRITTEN) == before, "no tag is written for that"
    view = rows(
        engine, "SELECT tag, probability, unsure FROM reelvec.best_tags WHERE tagger = 'genres@1'"
    )
    assert len(view) == 96
    assert {(tag is None, unsure) for tag, _, unsure in view} == {(True, True), (False, False)}
    assert all(unsure == (probability < middle) for _, probability, unsure in view)
    assert sum(unsure for *_, unsure in view) == found["unsure"]
    first = rows(
        engine, "SELECT tag, unsure FROM reelvec.tags WHERE tagger = 'genres@1' AND rank = 1"
    )
    assert sum(unsure for _, unsure in first) == found["unsure"]
    assert all(tag for tag, _ in first), "what it would have said is there"
    assert {
        unsure
        for (unsure,) in rows(engine, "SELECT unsure FROM reelvec.tags WHERE tagger = 'x-clip/en'")
    } == {False}
    assert tagged("--head", "genres")["unsure"] == found["unsure"], "it is kept"
    assert tagged("--head", "genres", "--unsure-below", "0")["unsure"] == 0


def test_a_vector_made_anew_takes_its_tag_along_and_what_slips_by_is_seen(
    engine: Engine, made: dict[str, np.ndarray]
) -> None:
    saved("--save", "genres")
    tagged("--head", "genres")
    wanted = ledgering.Wanted((1, 2), ())
    ledgering.record(engine, [ledgering.Row("s3://b/7")], wanted)
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending', force = true, owes = NULL")
    claimed = ledgering.claim(engine, 7, ledgering.worker(engine))
    assert claimed is not None
    one_of_two = Outcome((ledgering.vectors(2, dim=5),))
    assert ledgering.finish(engine, claimed, one_of_two) == "pending"
    speaker = "SELECT tagger FROM reelvec.best_tags WHERE video_id = 7"
    assert one(engine, speaker) == "x-clip/en", "nothing is left that was made of the old vector"
    assert broken(engine) == set()
    assert tagged("--head", "genres")["tagged"] == 1
    assert one(engine, speaker) == "genres@1"

    # a worker of the version before replaces a vector, and knows nothing of heads
    execute(
        engine,
        "UPDATE reelvec.video_embeddings SET created_at = now() WHERE video_id = 8 AND encoder_id = 1",
    )
    assert broken(engine) == {"tags of older vectors"}
    assert tagged("--head", "genres")["tagged"] == 1
    assert broken(engine) == set()


def test_what_was_broken_off_goes_on(
    engine: Engine, made: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("--save", "genres")
    monkeypatch.setattr(tagging, "BLOCK_VIDEOS", 16)
    seen: list[tuple[int, int]] = []

    def interrupted(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tagging.tag(engine, "genres", Selection(), unsure_below=None, tell=interrupted)
    assert seen == [(16, 96), (32, 96)]
    found = tagging.tag(engine, "genres", Selection(), unsure_below=None, tell=lambda *_: None)
    assert (found.tagged, found.already, found.all_tagged) == (64, 32, 96)


def test_what_a_head_cannot_be_asked(
    engine: Engine, made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    def refused(*words: str) -> Exception:
        result = CliRunner().invoke(reelvec, list(words))
        assert result.exit_code, words
        assert result.exception is not None
        return result.exception

    assert "there are none yet" in str(refused("tag", "--head", "genres"))
    saved("--save", "genres")
    for name in ("genre", "genres@2", "genres@x"):
        with (
            pytest.raises(UsageError, match="there are genres@1"),
            session.transaction(engine) as connection,
        ):
            heads.fetch(connection, name)
    assert "from 0 to 1" in str(refused("tag", "--head", "genres", "--unsure-below", "1.5"))
    assert "--head NAME" in str(refused("tag"))
    assert "is for --head" in str(refused("tag", "--labels", "x.csv", "--unsure-below", "0.5"))
    assert "is for --labels" in str(refused("tag", "--head", "genres", "--encoder", "vivit"))
    assert "no @, / or blank" in str(refused("evaluate", *BOTH, "--save", "a/b"))
    assert "not knn" in str(refused("evaluate", *BOTH, "--save", "x", "--kind", "knn"))
    assert "--encoder" in str(refused("evaluate", "--save", "x"))
    execute(engine, "UPDATE reelvec.encoders SET weights_digest = 'bbb' WHERE encoder = 'vivit'")
    assert isinstance(refused("tag", "--head", "genres"), RefusedConfigurationError)


def test_every_command_of_its_page_runs(
    engine: Engine, made: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(reelvec_origin.__file__).parent / "docs" / "evaluate.md"
    commands = [shlex.split(line) for line in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) > 10
    for words in commands:
        if "--write" in words:  # an administrator's
            monkeypatch.setenv("DATABASE_URL", engine.url.render_as_string(hide_password=False))
        out = run(*words)
        assert out or words[0] == "tag" or "--write" in words, words
    assert (tmp_path / "mistakes.csv").read_text().startswith("tagger,category,tag,videos")
    assert one(engine, "SELECT count(*) FROM reelvec.heads") == 0, "the last one deletes it"
