"""Searching by words, by a video, by a file: the nearest stored vectors, of one embedding space, or a
refusal that says why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine
from typer.testing import CliRunner

from db import encoders, search, session
from db.encoders import Encoder
from db.errors import RefusedConfigurationError, UsageError
from db.search import Hit, Stored, WindowHit
from producer import search as desk_search
from producer.cli import reelvec
from producer.commands.search import _show as show
from producer.commands.search import search as command
from producer.local.embed import Embedder
from producer.request import declared_encoder
from producer.search import Asked, Space
from producer.sought import File, Words, recognised
from tests import media
from tests.conftest import Desk
from tests.ledgering import execute
from tests.vectors import filled_windows
from tests.weights import make_models_dir
from workers.backbones import registry
from workers.backbones.base import Weights

TINY = ("--weights", "random-tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return make_models_dir(tmp_path_factory.mktemp("models"), ["siglip2"])


def bound(engine: Engine, encoder: Encoder, digest: str, dim: int) -> Encoder:
    """The encoder as a worker with these weights leaves it."""
    with session.transaction(engine) as connection:
        encoders.declare_encoder(connection, encoder)
        declared = encoders.fetch_encoder(connection, encoder.name)
        assert declared is not None
        encoders.bind(connection, declared, weights_digest=digest, dim=dim, pooling="frame-mean")
        found = encoders.fetch_encoder(connection, encoder.name)
        assert found is not None
    return found


def store(
    engine: Engine, encoder: Encoder, vectors: Sequence[np.ndarray], *, first: int = 1
) -> None:
    for number, vector in enumerate(vectors, first):
        execute(
            engine,
            "INSERT INTO reelvec.videos (uri, title, category) VALUES (:uri, :title, 'films')",
            uri=f"file:///{number}.mp4",
            title=f"no. [{number}]",
        )
        execute(
            engine,
            "INSERT INTO reelvec.video_embeddings SELECT :encoder, video_id, :vector, 'float32', "
            "gen_random_uuid() FROM reelvec.videos WHERE uri = :uri",
            encoder=encoder.encoder_id,
            vector=str(vector.tolist()),
            uri=f"file:///{number}.mp4",
        )


def test_words_find_the_videos_whose_vectors_are_nearest(
    engine: Engine, desk: Desk, models: Path
) -> None:
    """One command end to end: pretrained weights, a far vector, a near one, and one that is the
    text's own.
    """
    loaded = registry.module("siglip2").load(Weights("pretrained", models), "cpu")
    text = loaded.text_vectors(["two cats"])[0]  # type: ignore[attr-defined]
    away = np.random.Generator(np.random.PCG64(2)).standard_normal(loaded.dim).astype(np.float32)
    away -= (away @ text) * text
    away /= np.linalg.norm(away)
    encoder = bound(
        engine, declared_encoder("siglip2", "pretrained", "notebook"), loaded.digest, loaded.dim
    )
    store(engine, encoder, [-3 * text, text + away, 2 * text])
    variables = {"REELVEC_MODELS_DIR": str(models)}

    done = desk.run("reelvec", "search", "TWO", "Cats", "--json", **variables)
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hit["uri"] for hit in hits] == ["file:///3.mp4", "file:///2.mp4", "file:///1.mp4"]
    np.testing.assert_allclose([hit["distance"] for hit in hits], [0, 1 - 0.5**0.5, 2], atol=1e-3)
    assert list(hits[0]) == ["video_id", "distance", "external_id", "category", "title", "uri"]
    assert done.stderr.splitlines()[0].startswith("database "), "says first where it works"


def test_the_table_of_a_pipe_has_tabs_and_leaves_names_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show([Hit(7, 0.25, None, None, "no. [3]", "file:///3.mp4")], as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "video_id\tdistance\tcategory\ttitle\turi",
        "7\t0.2500\t\\N\tno. [3]\tfile:///3.mp4",
    ]
    show([WindowHit(7, 0.25, None, None, "b", "file:///3.mp4", 1, 8.04, 16.0)], as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "video_id\tdistance\tseconds\tcategory\ttitle\turi",
        "7\t0.2500\t8.0-16.0\t\\N\tb\tfile:///3.mp4",
    ]


def test_an_index_answers_in_the_same_order_and_with_as_many(engine: Engine) -> None:
    encoder = bound(engine, declared_encoder("siglip2", "random-tiny", "notebook"), "aaa", 2)
    angles = np.linspace(0.1, 3, 60)
    store(
        engine, encoder, [np.array([np.cos(angle), np.sin(angle)], np.float32) for angle in angles]
    )
    execute(
        engine,
        "CREATE INDEX by_angle ON reelvec.video_embeddings USING hnsw ((embedding::halfvec(2)) "
        f"halfvec_cosine_ops) WHERE encoder_id = {encoder.encoder_id}",
    )
    with session.transaction(engine) as connection:
        connection.exec_driver_sql(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
        )
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        hits = search.nearest(connection, encoder, [1.0, 0.0], limit=60)
        scans = connection.exec_driver_sql(
            "SELECT pg_stat_get_xact_numscans('reelvec.by_angle'::regclass)"
        ).scalar()
    assert scans == 1, "the index was used"
    assert [hit.uri for hit in hits] == [f"file:///{number}.mp4" for number in range(1, 61)]
    np.testing.assert_allclose([hit.distance for hit in hits], 1 - np.cos(angles), atol=2e-3)


def test_other_weights_than_the_stored_ones_are_refused(engine: Engine) -> None:
    bound(engine, declared_encoder("siglip2", "random-tiny", "notebook"), "aaa", 32)
    with pytest.raises(
        RefusedConfigurationError, match=r"made with weights aaa, here are [0-9a-f]{64}"
    ):
        desk_search.nearest_videos(
            engine, declared_encoder("siglip2", "random-tiny", "notebook"), "a cat", Asked(1)
        )


def test_another_sampling_is_another_space(engine: Engine, desk: Desk) -> None:
    loaded = registry.module("siglip2").load(Weights("random-tiny"), "cpu")
    encoder = bound(
        engine, declared_encoder("siglip2", "random-tiny", "notebook"), loaded.digest, loaded.dim
    )
    store(engine, encoder, [np.ones(loaded.dim, np.float32)])
    assert desk_search.nearest_videos(engine, encoder, "a cat", Asked(5))
    told = desk.run("reelvec", "search", "a cat", *TINY, "--sampling", "uniform", expect=2).stderr
    assert (
        "siglip2-random-tiny-uniform yet: run enqueue --backbone siglip2 --weights random-tiny "
        "--sampling uniform" in told
    )


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"sampling": "all"}, "there are notebook, uniform"),
        ({"weights": "tiny"}, "random-tiny"),
        ({"sought": ["  "]}, "nothing to search for"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_server_is_asked(
    chosen: dict, told: str
) -> None:
    usual = {"sought": ["a cat"], "backbone": None, "weights": None, "sampling": None}
    with pytest.raises(UsageError, match=told):
        command(**{**usual, **chosen}, limit=10, as_json=False)


@pytest.mark.parametrize(
    ("backbone", "told"),
    [
        ("x-clip", "x-clip cannot search by words: its text depends on the video it is compared"),
        ("vivit", "vivit cannot search by words: it reads no text; siglip2 can"),
        ("siglip", "did you mean siglip2?"),
    ],
)
def test_a_model_that_reads_no_words_alone_is_refused(
    engine: Engine, backbone: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told.replace("?", r"\?")):
        desk_search.find(engine, Words("a cat"), Space(backbone), Asked(1), str)


def test_what_is_searched_is_a_video_before_a_file_and_a_file_before_words(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("known.mp4", "new.mp4", "a dog"):
        Path(name).write_bytes(b"")
    columns = "INSERT INTO reelvec.videos (uri, external_id) VALUES "
    execute(engine, columns + f"('file://{tmp_path}/known.mp4', '2'), ('s3://bucket/two', 'rt-77'),"
                              " ('s3://bucket/rt-77-again', 'rt-77'), ('https://h/x.mp4', '900')")  # fmt: skip
    videos = {"2": 2, "900": 4, "rt-77": 2, "known.mp4": 1, "s3://bucket/two": 2, "https://h/x.mp4": 4,
              f"{tmp_path}/../{tmp_path.name}/known.mp4": 1}  # fmt: skip
    with session.transaction(engine) as connection:
        for text, video_id in videos.items():
            found = recognised(connection, text, str)
            assert isinstance(found, Stored), text
            assert found.video_id == video_id, "a number is a video's before it is an id"
        for text in ("new.mp4", "s3://bucket/three", "https://h/y.mp4?x=1", "a dog"):
            assert recognised(connection, text, str) == File(text)
        for text in ("a dog on a beach", "собака", "cats/dogs", "48.0"):
            assert recognised(connection, text, str) == Words(text)
        for text, told in (
            ("17", "there is no video 17, and none has it as its id"),
            (str(2**70), "there is no video"),
            ("gone.mp4", "no such file, and no recorded video"),
            ("./gone", "no such file"),
            ("ftp://h/a.mp4", "ftp: is not supported"),
        ):
            with pytest.raises(UsageError, match=told):
                recognised(connection, text, str)


def test_a_number_that_is_another_videos_id_is_said_with_the_way_to_that_one(
    engine: Engine,
) -> None:
    columns = "INSERT INTO reelvec.videos (uri, external_id) VALUES "
    execute(engine, columns + "('s3://b/one', '2'), ('s3://b/two', NULL), ('s3://b/three', '3')")
    said: list[str] = []
    with session.transaction(engine) as connection:
        found = recognised(connection, "2", said.append)
        assert isinstance(found, Stored)
        assert found.video_id == 2
        assert said == [
            "2 is taken as a video's number; it is also the id of s3://b/one, which is found by "
            "its own number: 1"
        ]
        for text in ("1", "3"):
            recognised(connection, text, said.append)
    assert len(said) == 1, "a video whose id is its number is one and the same"


def test_an_id_that_no_video_has_is_said_to_be_taken_as_a_word(desk: Desk) -> None:
    told = desk.run("reelvec", "search", "rt-77", expect=2).stderr.splitlines()
    assert told[1] == "no video has the number, id or address 'rt-77': it is taken as a word"
    assert "no video has a vector of siglip2 yet" in told[2]
    assert "taken as" not in desk.run("reelvec", "search", "two", "cats", expect=2).stderr


def test_a_stored_video_finds_others_of_a_category_and_their_windows(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    encoder = bound(engine, declared_encoder("vivit", "pretrained", "notebook"), "aaa", 2)
    store(engine, encoder, [np.array([1, 0]), np.array([1, 1]), np.array([0, 1]), np.array([1, 2])])
    execute(engine, "UPDATE reelvec.videos SET category = 'series' WHERE video_id > 2")
    execute(engine, "UPDATE reelvec.videos SET external_id = 'rt-77' WHERE video_id = 1")
    filled_windows(engine, encoder, np.array([[[1, 0], [0, 1]], [[-1, 0], [1, 0.1]]], np.float32))

    def found(*arguments: str) -> list[dict]:
        done = CliRunner().invoke(reelvec, ["search", *arguments, "--json"])
        assert done.exit_code == 0, done.exception
        assert "nearest to video 1, file:///1.mp4 by vivit\n" in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert [hit["video_id"] for hit in found("rt-77", "-k", "2")] == [2, 4]
    assert [hit["video_id"] for hit in found("1", "--category", "series")] == [4, 3]
    (best,) = found("1", "--windows", "-k", "1")
    assert (best["video_id"], best["window_index"]) == (2, 1), "its own window is as near as can be"
    assert (best["start_seconds"], best["end_seconds"]) == (10, 20)
    other = bound(engine, declared_encoder("x-clip", "random-tiny", "notebook"), "bbb", 2)
    execute(
        engine,
        "INSERT INTO reelvec.video_embeddings SELECT :other, video_id, embedding, 'float32', "
        "gen_random_uuid() FROM reelvec.video_embeddings",
        other=other.encoder_id,
    )
    told = CliRunner().invoke(reelvec, ["search", "1"]).stderr
    assert "file:///1.mp4 by vivit. Other models: --backbone x-clip-random-tiny\n" in told
    with session.transaction(engine) as connection:
        video = recognised(connection, "rt-77", str)
    with pytest.raises(
        UsageError,
        match=r"1, file:///1.mp4, has no vector of x-clip: it was never queued; it has one of vivit",
    ):
        desk_search.find(engine, video, Space("x-clip"), Asked(1), str)
    with pytest.raises(UsageError, match="there is no encoder 'notebook-vivit'; there are vivit"):
        desk_search.find(engine, video, Space("notebook-vivit"), Asked(1), str)


def test_a_file_that_is_not_in_the_catalogue_is_embedded_by_the_model_of_its_vectors(
    engine: Engine, tmp_path: Path
) -> None:
    clips = [media.make_clip(tmp_path / f"{seed}.mp4", seconds=1, seed=seed) for seed in (1, 2)]
    names = [str(clip) for clip in clips]
    with Embedder(
        ["probe"], weights="pretrained", sampling="notebook", labels=None, out=None, files=names
    ) as embedder:
        vectors = [embedder.arrays(number)["probe/pooled"] for number in (0, 1)]
    loaded = registry.module("probe").load(Weights("pretrained"), "cpu")
    encoder = bound(engine, declared_encoder("probe", "pretrained", "notebook"), loaded.digest, 64)
    store(engine, encoder, vectors)
    said: list[str] = []
    hits = desk_search.find(engine, File(names[1]), Space(), Asked(2), said.append)
    assert [hit.video_id for hit in hits] == [2, 1]
    assert hits[0].distance == pytest.approx(0, abs=1e-3)
    assert said == [f"nearest to {names[1]} by probe"]
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "teal.png")
    found = desk_search.find(engine, File(str(tmp_path / "teal.png")), Space(), Asked(2), str)
    assert {hit.video_id for hit in found} == {1, 2}, "a picture is a video that stands still"
    execute(engine, "UPDATE reelvec.encoders SET weights_digest = 'other'")
    with pytest.raises(RefusedConfigurationError, match="made with weights other, here are "):
        desk_search.find(engine, File(names[1]), Space(), Asked(2), str)
    with pytest.raises(UsageError, match=r"cannot be embedded here: .* \(of vivit: none\)"):
        desk_search.find(engine, File(names[1]), Space("vivit"), Asked(2), str)


def test_words_that_are_too_many_are_refused(
    engine: Engine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = registry.module("siglip2").load(Weights("pretrained", models), "cpu")
    encoder = bound(
        engine, declared_encoder("siglip2", "pretrained", "notebook"), loaded.digest, loaded.dim
    )
    monkeypatch.setenv("REELVEC_MODELS_DIR", str(models))
    assert desk_search.nearest_videos(engine, encoder, "x" * 63, Asked(1)) == []
    with pytest.raises(UsageError, match="65 tokens long; SigLIP 2 reads 64: shorten it"):
        desk_search.nearest_videos(engine, encoder, "x" * 64, Asked(1))
