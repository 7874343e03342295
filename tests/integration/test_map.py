"""`reelvec map`: a place for every vector, kept with it, and what is shown of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from db.encoders import Encoder
from db.errors import UsageError
from db.results import arrays, maps
from producer.cli import reelvec
from producer.results import mapping
from tests import logins
from tests.ledgering import execute, one, read
from tests.vectors import as_stored, bound, filled, written

DIM, VIDEOS = 40, 60
PLACES = "SELECT array_agg(ARRAY[x, y] ORDER BY video_id) FROM reelvec.coordinates WHERE encoder = 'vivit'"


@pytest.fixture
def made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Three heaps of videos, read in blocks of 17."""
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 17)
    chance = np.random.default_rng(0)
    heaps = 3 * np.eye(DIM, dtype=np.float32)[np.arange(VIDEOS) % 3]
    vectors = as_stored(heaps + chance.normal(0, 0.3, (VIDEOS, DIM)).astype(np.float32))
    return filled(engine, bound(engine, "vivit", DIM), vectors)


@pytest.fixture
def at_the_desk(engine: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command as one runs it who may only do what a desk does."""
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    with logins.made(engine.url.render_as_string(hide_password=False)) as addresses:
        monkeypatch.setenv("DATABASE_URL", addresses["desk"])
        yield


def run(*words: str) -> tuple[list[dict], str]:
    """What `reelvec map` prints, and what it says."""
    result = CliRunner().invoke(reelvec, ["map", *words, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def places(engine: Engine) -> np.ndarray:
    return np.array(one(engine, PLACES))


def expected(vectors: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Vectors [n, d] on the two principal axes of those `of` which they are."""
    unit, base = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, of))
    _, _, directions = np.linalg.svd(base - base.mean(axis=0), full_matrices=False)
    return (unit - base.mean(axis=0)) @ directions[:2].T


def same_up_to_sign(found: np.ndarray, wanted: np.ndarray) -> None:
    turned = np.sign((found * wanted).sum(axis=0))
    np.testing.assert_allclose(found * turned, wanted, atol=1e-4)


@pytest.mark.usefixtures("at_the_desk")
def test_every_vector_has_a_place_and_what_is_new_is_placed_beside_the_rest(
    engine: Engine, made: np.ndarray
) -> None:
    (first,), said = run()
    assert (first["encoder"], first["method"], first["points"], first["new"], first["anew"]) == (
        "vivit", "pca", VIDEOS, VIDEOS, True,
    )  # fmt: skip
    assert "vivit: 60 points by pca, 60 of them new; its two axes hold" in said
    before = places(engine)
    same_up_to_sign(before, expected(made, made))

    (again,), said = run("vivit")
    assert (again["new"], again["anew"], again["made_at"]) == (0, False, first["made_at"])
    assert "none of them new" in said

    # one video more, and one whose vector a worker has made anew
    execute(engine, "INSERT INTO reelvec.videos (uri) VALUES ('file:///new')")
    execute(engine, "DELETE FROM reelvec.video_embeddings WHERE video_id = 5")
    assert one(engine, "SELECT count(*) FROM reelvec.map_points WHERE video_id = 5") == 0
    vectors = np.concatenate([made, made[:1]])
    vectors[4] = made[0]
    for video_id in (5, VIDEOS + 1):
        execute(
            engine,
            "INSERT INTO reelvec.video_embeddings SELECT encoder_id, :video, embedding, dtype, worker_id, now()"
            " FROM reelvec.video_embeddings WHERE video_id = 1",
            video=video_id,
        )
    (later,), said = run("vivit")
    assert (later["points"], later["new"], later["anew"], later["vectors"]) == (VIDEOS + 1, 2, False, VIDEOS)  # fmt: skip
    now = places(engine)
    kept = np.delete(np.arange(VIDEOS), 4)
    np.testing.assert_array_equal(now[kept], before[kept])
    np.testing.assert_allclose(now[[4, VIDEOS]], before[[0, 0]], atol=1e-6)

    (anew,), _ = run("vivit", "--anew")
    assert (anew["new"], anew["anew"], anew["vectors"]) == (0, True, VIDEOS + 1)
    same_up_to_sign(places(engine), expected(vectors, vectors))
    assert one(engine, "SELECT count(*) FROM reelvec.maps") == 1
    assert one(engine, "SELECT count(*) FROM reelvec.map_points") == VIDEOS + 1

    execute(engine, "DELETE FROM reelvec.videos WHERE video_id = 1")
    assert len(places(engine)) == VIDEOS


@pytest.mark.usefixtures("at_the_desk")
def test_pacmap_keeps_together_what_is_near_and_moves_only_when_something_is_new(
    engine: Engine, made: np.ndarray
) -> None:
    (found,), said = run("vivit", "--method", "pacmap")
    assert (found["method"], found["points"], found["variance_share"]) == ("pacmap", VIDEOS, None)
    assert "axes" not in said
    lies = places(engine)
    distances = np.linalg.norm(lies[:, None] - lies[None], axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:6]
    assert (nearest % 3 == np.arange(VIDEOS)[:, None] % 3).mean() > 0.9
    (again,), _ = run()
    assert (again["method"], again["new"], again["anew"]) == ("pacmap", 0, False)
    np.testing.assert_array_equal(places(engine), lies)
    execute(engine, "DELETE FROM reelvec.video_embeddings WHERE video_id = 5")
    execute(
        engine,
        "INSERT INTO reelvec.video_embeddings SELECT encoder_id, 5, embedding, dtype, worker_id, now()"
        " FROM reelvec.video_embeddings WHERE video_id = 2",
    )
    (later,), _ = run()
    assert (later["method"], later["new"], later["anew"]) == ("pacmap", 1, True)
    (back,), _ = run("--method", "pca")
    assert (back["method"], back["anew"]) == ("pca", True)


def test_a_map_appears_whole_and_a_broken_run_leaves_nothing(
    engine: Engine, made: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(anew: bool = False, tell: mapping.Tell = lambda *_: None) -> mapping.Mapped:
        return mapping.make(engine, "vivit", None, anew=anew, who="me", tell=tell)

    make()
    before = places(engine)
    told: list[tuple[int, int]] = []

    def interrupted(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(anew=True, tell=interrupted)
    assert told == [(17, 60), (34, 60), (51, 60), (60, 60), (17, 60), (34, 60)]
    assert one(engine, "SELECT count(*) FROM reelvec.map_points") == VIDEOS + 34
    np.testing.assert_array_equal(places(engine), before)
    made_anew = make(anew=True)
    assert made_anew.points == VIDEOS
    assert one(engine, "SELECT count(*) FROM reelvec.map_points") == VIDEOS

    # somebody else begins one while ours is written
    def overtaken(done: int, total: int) -> None:
        execute(engine, "DELETE FROM reelvec.maps WHERE NOT is_whole")

    with pytest.raises(UsageError, match="another reelvec map of vivit was begun meanwhile"):
        make(anew=True, tell=overtaken)
    np.testing.assert_array_equal(places(engine), before)


def test_a_vector_that_changes_while_it_is_placed_gets_no_place(
    engine: Engine, made: np.ndarray
) -> None:
    changed = "UPDATE reelvec.video_embeddings SET created_at = now() WHERE video_id IN (3, 4)"
    begun = []

    def meanwhile(done: int, total: int) -> None:
        if not begun and one(engine, "SELECT count(*) FROM reelvec.maps"):
            begun.append(done)
            execute(engine, "DELETE FROM reelvec.videos WHERE video_id IN (40, 41)")
            execute(engine, changed.replace("3, 4", "50, 51"))

    found = mapping.make(engine, "vivit", None, anew=False, who="me", tell=meanwhile)
    assert begun == [17]
    assert found.points == VIDEOS - 4
    later = mapping.make(engine, "vivit", None, anew=False, who="me", tell=lambda *_: None)
    assert (later.points, later.new) == (VIDEOS - 2, 2)


def test_what_cannot_be_mapped_says_why(engine: Engine) -> None:
    def refused(name: str, method: str | None = None) -> str:
        with pytest.raises(UsageError) as found:
            mapping.make(engine, name, method, anew=False, who="me", tell=lambda *_: None)
        return str(found.value)

    assert "there is no encoder 'vivit'" in refused("vivit")
    encoder: Encoder = bound(engine, "vivit", DIM)
    assert "vivit has no vectors yet" in refused("vivit")
    assert mapping.names(engine) == []
    assert "--method umap: there are pca, pacmap" in refused("vivit", "umap")
    filled(engine, encoder, np.ones((1, DIM), np.float32))
    found = mapping.make(engine, "vivit", None, anew=False, who="me", tell=lambda *_: None)
    assert (found.points, found.variance_share) == (1, 0)
    assert read(engine, lambda c: maps.current(c, encoder)) is not None
    written(engine, bound(engine, "x-clip", DIM), np.ones((1, DIM), np.float32))
    assert mapping.names(engine) == ["vivit", "x-clip"]
