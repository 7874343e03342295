"""New labels for videos that were embedded before: the probabilities of a fresh run, from what was
stored, whatever else happens to the videos meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import text
from typer.testing import CliRunner

from db import encoders, session
from db.administration import invariants
from db.encoders import Encoder
from db.errors import RefusedConfigurationError, UsageError
from db.jobs.catalogue import Wanted
from db.jobs.outcome import EncoderRows, Outcome, TaggerRows
from db.jobs.selection import Selection
from db.labels import LabelSet
from db.ledger import Claim
from db.media import Media
from producer.categories import label_sets_from_file
from producer.cli import reelvec
from producer.request import Options, checked, declared_encoder
from producer.results import labelling as desk
from producer.sources.reading import VideoRow
from tests import ledgering
from tests.ledgering import execute, one
from tests.weights import synthetic_frames
from workers.engine.engine import Encoding, Engine, ModelKey

NAMES = ("x-clip", "siglip2")
OLD = LabelSet("old", ("a cat", "a dog"), ("cats", "dogs"))
MOODS = """category,prompt
calm,"a quiet, slow scene"
calm,nothing happens
wild,people run and shout
sad,rain on a window
"""
KEPT, BARE = (1, 2, 3), (4, 5)
"""Videos of which the context was kept, and others."""
#: What the models made, once for all tests: by model, video, label sets and whether context is kept.
ENCODINGS: dict[tuple[str, int, tuple[LabelSet, ...], bool], Encoding] = {}


@pytest.fixture(scope="module")
def compute() -> Iterator[Engine]:
    made = Engine(device="cpu", models_dir=None)
    yield made
    made.close()


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    path = tmp_path / "moods.csv"
    path.write_text(MOODS, encoding="utf-8")
    return path


class Fleet:
    """One worker whose models see frames that are made of a video's number."""

    def __init__(self, database: Database, compute: Engine, labels: Sequence[LabelSet]) -> None:
        self.database, self.compute, self.labels = database, compute, tuple(labels)
        self.me: UUID = ledgering.worker(database)
        self.encoders = [self._bound(name) for name in NAMES]
        with session.transaction(database) as connection:
            self.taggers = [
                encoders.declare_tagger(connection, encoder.encoder_id or 0, encoder.name, OLD)
                for encoder in self.encoders
            ]

    def _bound(self, name: str) -> Encoder:
        facts = self.compute.load(ModelKey(name, "random-tiny"))
        with session.transaction(self.database) as connection:
            declared = declared_encoder(name, "random-tiny", "notebook")
            encoders.declare_encoder(connection, declared)
            known = encoders.known_encoder(connection, declared.name)
            encoders.bind(
                connection, known, weights_digest=facts.digest, dim=facts.dim, pooling=facts.pooling
            )
            return encoders.known_encoder(connection, declared.name)

    def record(self, number: int, *, keep_context: bool, force: bool = False) -> None:
        wanted = Wanted(
            tuple(encoder.encoder_id or 0 for encoder in self.encoders),
            tuple(self.taggers),
            force,
            keep_context=keep_context,
        )
        ledgering.record(self.database, [VideoRow(f"file:///{number}.mp4")], wanted)

    def claim(self, number: int) -> Claim:
        execute(self.database, "UPDATE reelvec.jobs SET state = 'queued' WHERE state = 'pending'")
        claimed = ledgering.claim(self.database, number, self.me)
        assert claimed is not None
        return claimed

    def encoding(self, encoder: Encoder, number: int, *, keep_context: bool = False) -> Encoding:
        asked = (encoder.backbone, number, self.labels, keep_context)
        if asked not in ENCODINGS:
            ENCODINGS[asked] = self.compute.submit(
                ModelKey(encoder.backbone, "random-tiny"), synthetic_frames(number), self.labels,
                timeout_seconds=60, keep_context=keep_context,
            ).result(60)  # fmt: skip
        return ENCODINGS[asked]

    def finish(self, claimed: Claim, frames_of: int) -> None:
        made = [
            (encoder, self.encoding(encoder, frames_of, keep_context=claimed.keep_context))
            for encoder in self.encoders
        ]
        rows = [
            EncoderRows(encoder.encoder_id or 0, encoding.pooled, encoding.windows,
                        np.zeros((len(encoding.windows), 2), np.float32), "float32", encoding.context)
            for encoder, encoding in made
        ]  # fmt: skip
        scores = [
            TaggerRows(tagger, OLD.categories, encoding.probabilities[OLD.digest])
            for tagger, (_, encoding) in zip(self.taggers, made, strict=True)
        ]
        media = Media(f"v{frames_of}", 1)
        assert ledgering.finish(
            self.database, claimed, Outcome(tuple(rows), tuple(scores), media=media)
        )

    def embed(self, number: int, *, keep_context: bool, force: bool = False) -> None:
        self.record(number, keep_context=keep_context, force=force)
        self.finish(self.claim(number), number)


@pytest.fixture
def fleet(engine: Database, compute: Engine, moods: Path) -> Fleet:
    made = Fleet(engine, compute, [OLD, label_sets_from_file(moods)])
    for number in (*KEPT, *BARE):
        made.embed(number, keep_context=number in KEPT)
    return made


def label(
    fleet: Fleet, moods: Path, selection: Selection | None = None, names: Sequence[str] = ()
) -> dict[str, desk.Labelled]:
    told: list[tuple[int, int]] = []
    done = desk.label(
        fleet.database, moods, selection or Selection(), names=names,
        tell=lambda videos, total: told.append((videos, total)),
    )  # fmt: skip
    found = {each.encoder.backbone: each for each in done}
    assert all(videos <= total for videos, total in told)
    return found


def stored(database: Database, tagger: str) -> dict[int, tuple[np.ndarray, np.ndarray, str, float]]:
    with session.transaction(database) as connection:
        rows = connection.execute(
            text(
                "SELECT video_id, probabilities, window_probabilities, tag, probability FROM"
                " reelvec.scores JOIN reelvec.taggers USING (tagger_id) WHERE tagger = :tagger"
            ),
            {"tagger": tagger},
        ).all()
    return {row[0]: (np.array(row[1]), np.array(row[2]), row[3], row[4]) for row in rows}


def refused_rules(database: Database) -> list[str]:
    """Rules of `doctor --data` that do not hold."""
    return [
        found.invariant.name
        for found in invariants.check_all(database, timeout_seconds=30)
        if found.count and found.invariant.severity == "fail"
    ]


def test_stored_windows_get_the_probabilities_of_a_fresh_run(
    fleet: Fleet, moods: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = fleet.database
    monkeypatch.setattr(desk, "VIDEOS", 2)
    monkeypatch.setattr(desk, "VIDEOS_WITH_CONTEXT", 2)
    done = label(fleet, moods)
    assert {name: (each.written, each.missing, each.held) for name, each in done.items()} == {
        "siglip2": (5, 0, 0),
        "x-clip": (3, 2, 0),
    }
    digest = label_sets_from_file(moods).digest
    for encoder in fleet.encoders:
        found = stored(database, f"{encoder.name}/moods")
        assert set(found) == set(KEPT if encoder.backbone == "x-clip" else KEPT + BARE)
        for number, (mean, windows, tag, probability) in found.items():
            fresh = fleet.encoding(encoder, number).probabilities[digest]
            np.testing.assert_allclose(windows, fresh, atol=1e-4)
            np.testing.assert_allclose(mean, fresh.mean(axis=0), atol=1e-4)
            assert tag == ("calm", "wild", "sad")[fresh.mean(axis=0).argmax()]
            assert probability == pytest.approx(float(mean.max()))
    assert refused_rules(database) == []

    again = label(fleet, moods)
    assert [(each.written, each.counts.scored) for each in again.values()] == [(0, 5), (0, 3)]
    fleet.record(1, keep_context=False)
    assert one(database, "SELECT state FROM reelvec.jobs WHERE video_id = 1") == "done"
    wanted = "SELECT cardinality(taggers) FROM reelvec.jobs WHERE video_id = {}"
    assert [one(database, wanted.format(number)) for number in (1, 4)] == [4, 3], (
        "a new version of the video will get these scores, too"
    )


def test_a_context_goes_with_its_vector(fleet: Fleet) -> None:
    database = fleet.database
    videos = "SELECT array_agg(video_id ORDER BY video_id) FROM reelvec.contexts"
    size = "SELECT max(length(context)) FROM reelvec.contexts"
    assert one(database, videos) == [1, 2, 3]
    assert one(database, size) == 3 * 196 * 32 * 2
    before = one(database, "SELECT context FROM reelvec.contexts WHERE video_id = 1")
    execute(database, "DELETE FROM reelvec.videos WHERE video_id = 2")
    assert one(database, videos) == [1, 3]
    fleet.record(1, keep_context=False, force=True)  # asked for once, it stays wanted
    fleet.finish(fleet.claim(1), frames_of=9)
    after = one(database, "SELECT context FROM reelvec.contexts WHERE video_id = 1")
    assert bytes(before) != bytes(after)  # type: ignore[call-overload]
    # a worker of an older version writes none, and must not leave the old one
    execute(database, "UPDATE reelvec.jobs SET keep_context = false WHERE video_id = 1")
    fleet.embed(1, keep_context=False, force=True)
    assert one(database, videos) == [3]


def test_what_a_worker_has_taken_is_left_to_it(
    fleet: Fleet, moods: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One video runs when its vectors are read, another is made anew until they are written, of a
    third the scores come from somebody else; a fourth has no job, as after an import.
    """
    database = fleet.database
    fleet.record(1, keep_context=False, force=True)
    running = fleet.claim(1)
    execute(database, "DELETE FROM reelvec.jobs WHERE video_id = 5")
    real = desk._probabilities

    def meanwhile(*arguments: object) -> np.ndarray:
        monkeypatch.setattr(desk, "_probabilities", real)
        fleet.embed(2, keep_context=False, force=True)
        label(fleet, moods, Selection(uri_prefix="file:///3"), ["siglip2-random-tiny"])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(desk, "_probabilities", meanwhile)
    done = label(fleet, moods, names=["siglip2-random-tiny"])["siglip2"]
    assert (done.written, done.held) == (2, 3)
    assert set(stored(database, "siglip2-random-tiny/moods")) == {3, 4, 5}
    fleet.finish(running, 1)
    assert label(fleet, moods, names=["siglip2-random-tiny"])["siglip2"].written == 2
    assert refused_rules(database) == []


def test_what_cannot_be_is_refused_in_words(fleet: Fleet, moods: Path, tmp_path: Path) -> None:
    database = fleet.database
    with pytest.raises(UsageError, match=r"there is no encoder 'x-clop'; there are"):
        label(fleet, moods, names=["x-clop"])
    ledgering.declare(database, "probe")
    with pytest.raises(UsageError, match=r"--encoder probe: it has no vectors yet"):
        label(fleet, moods, names=["probe"])
    asked = Options(backbones=("vivit",), weights="random-tiny", keep_context=True)
    with pytest.raises(UsageError, match=r"--keep-context is for x-clip: of vivit"):
        checked(asked)
    with pytest.raises(UsageError, match=r"takes a CSV or text file"):
        label(fleet, tmp_path / "none.csv")
    execute(
        database, "UPDATE reelvec.encoders SET weights_digest = 'other' WHERE encoder LIKE 's%'"
    )
    with pytest.raises(RefusedConfigurationError, match="made with weights other, here are"):
        label(fleet, moods)
    execute(database, "DELETE FROM reelvec.videos")
    execute(database, "DELETE FROM reelvec.taggers")
    execute(database, "DELETE FROM reelvec.encoders")
    with pytest.raises(UsageError, match=r"no video has a vector of a model that reads text"):
        label(fleet, moods)


def test_the_command_says_what_it_did_and_what_the_rest_would_cost(
    fleet: Fleet, moods: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = fleet.database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", address)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    execute(fleet.database, "UPDATE reelvec.jobs SET decode_seconds = 30, device_seconds = 120")
    done = CliRunner().invoke(reelvec, ["tag", "--labels", str(moods), "--json"])
    assert done.exit_code == 0, done.output
    siglip, xclip = map(json.loads, done.stdout.splitlines())
    assert (xclip["tagger"], xclip["tagged"], xclip["not_tagged"]) == (
        "x-clip-random-tiny/moods", 3, 2,
    )  # fmt: skip
    assert (siglip["tagged"], siglip["not_tagged"]) == (5, 0)
    said = done.stderr.splitlines()
    assert said[-2] == "x-clip-random-tiny/moods: 3 videos tagged"
    assert said[-1] == (
        "x-clip-random-tiny/moods: 2 videos not tagged: no context is kept of them. "
        f"`enqueue --backbone x-clip --labels {moods} --weights random-tiny` reads them again, about"
        " 60 s of a core for decoding and 4 min of a device, by the mean of 5 videos"
    )
    execute(
        fleet.database,
        "UPDATE reelvec.jobs SET state = 'failed' WHERE video_id = (SELECT max(video_id) FROM reelvec.videos v "
        "WHERE NOT EXISTS (SELECT FROM reelvec.contexts c WHERE c.video_id = v.video_id))",
    )
    done = CliRunner().invoke(reelvec, ["tag", "--labels", str(moods), "--json"])
    assert (
        "x-clip-random-tiny/moods: 2 videos not tagged: no context is kept of them, and 1 of them "
        f"failed (reelvec status --failed says why). `enqueue --backbone x-clip --labels {moods} "
        "--weights random-tiny` reads the others again, about 30 s"
    ) in done.stderr
    for arguments, words in (
        ([], "either --labels FILE or --head NAME"),
        (["--labels", "a.csv", "--unsure-below", "0.5"], "--unsure-below is for --head"),
        (["--head", "genres", "--encoder", "x-clip"], "--encoder is for --labels"),
    ):
        refused = CliRunner().invoke(reelvec, ["tag", *arguments])
        assert words in str(refused.exception)
