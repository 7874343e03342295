"""Searching by words: the nearest stored vectors, of one embedding space, or a refusal that says
why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from db import encoders, search, session
from db.encoders import Encoder
from db.errors import RefusedConfigurationError, UsageError
from db.search import Hit
from producer import search as desk_search
from producer.commands.search import _show as show
from producer.commands.search import search as command
from producer.request import declared_encoder
from tests.conftest import Desk
from tests.ledgering import execute
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
            engine, declared_encoder("siglip2", "random-tiny", "notebook"), "a cat", limit=1
        )


def test_another_sampling_is_another_space(engine: Engine, desk: Desk) -> None:
    loaded = registry.module("siglip2").load(Weights("random-tiny"), "cpu")
    encoder = bound(
        engine, declared_encoder("siglip2", "random-tiny", "notebook"), loaded.digest, loaded.dim
    )
    store(engine, encoder, [np.ones(loaded.dim, np.float32)])
    assert desk_search.nearest_videos(engine, encoder, "a cat", limit=5)
    told = desk.run("reelvec", "search", "a cat", *TINY, "--sampling", "uniform", expect=2).stderr
    assert (
        "siglip2-random-tiny-uniform yet: run enqueue --backbone siglip2 --weights random-tiny "
        "--sampling uniform" in told
    )


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            {"backbone": "x-clip"},
            "x-clip cannot search by words: its text depends on the video it is compared with",
        ),
        ({"backbone": "vivit"}, "vivit cannot search by words: it reads no text; siglip2 can"),
        ({"backbone": "siglip"}, "did you mean siglip2?"),
        ({"sampling": "all"}, "there are notebook, uniform"),
        ({"weights": "tiny"}, "random-tiny"),
        ({"words": ["  "]}, "no words given"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_server_is_asked(
    chosen: dict, told: str
) -> None:
    usual = {
        "words": ["a cat"],
        "backbone": "siglip2",
        "weights": "pretrained",
        "sampling": "notebook",
    }
    with pytest.raises(UsageError, match=told):
        command(**{**usual, **chosen}, limit=10, as_json=False)


def test_words_that_are_too_many_are_refused(
    engine: Engine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = registry.module("siglip2").load(Weights("pretrained", models), "cpu")
    encoder = bound(
        engine, declared_encoder("siglip2", "pretrained", "notebook"), loaded.digest, loaded.dim
    )
    monkeypatch.setenv("REELVEC_MODELS_DIR", str(models))
    assert desk_search.nearest_videos(engine, encoder, "x" * 63, limit=1) == []
    with pytest.raises(UsageError, match="65 tokens long; SigLIP 2 reads 64: shorten it"):
        desk_search.nearest_videos(engine, encoder, "x" * 64, limit=1)
