"""The nearest of a category and the nearest windows: as many as asked for, the right ones, by an
index where that pays and without one where it would lose.
"""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from db import session
from db.encoders import Encoder
from tests.ledgering import execute
from tests.vectors import bound, filled, filled_windows, index

DIM, WINDOWS = 4, 3
#: So many that all but every 100th, which is rare, are more than 5,000.
MANY = 5_200
CATEGORY = "UPDATE reelvec.videos SET category = CASE WHEN video_id % 100 = 0 THEN 'rare' ELSE 'common' END"
WINDOW_INDEX = """
CREATE INDEX by_window ON reelvec.window_embeddings USING hnsw ((embedding::halfvec({dim})) halfvec_cosine_ops)
WHERE encoder_id = {encoder_id}
"""


def crowd(engine: Engine, videos: int) -> tuple[Encoder, np.ndarray]:
    """Videos in two categories without indexes: their windows, float32 [videos, WINDOWS, DIM]."""
    encoder = bound(engine, "vivit", DIM)
    numbers = np.random.default_rng(3)
    windows = numbers.standard_normal((videos, WINDOWS, DIM)).astype(np.float16).astype(np.float32)
    filled(engine, encoder, windows.mean(axis=1))
    execute(engine, CATEGORY)
    return encoder, windows


def prefer_index(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")


def order(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Places of the rows by cosine distance."""
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return np.argsort(-cosine, kind="stable")


def rows(connection: Connection, call: str) -> list[tuple]:
    return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM reelvec.{call}")]


def scans(connection: Connection, name: str) -> int:
    asked = f"SELECT pg_stat_get_xact_numscans('reelvec.{name}'::regclass)"
    return int(connection.exec_driver_sql(asked).scalar_one())


def test_a_rare_category_is_looked_through_and_a_common_one_is_filtered(engine: Engine) -> None:
    encoder, windows = crowd(engine, MANY)
    vectors = windows.mean(axis=1)
    index(engine, encoder)
    execute(engine, "ANALYZE")
    ids = np.arange(1, MANY + 1)
    ranked = ids[order(vectors, vectors[6])]
    ranked = ranked[ranked != 7]
    for category, of_category in (("rare", ranked % 100 == 0), ("common", ranked % 100 != 0)):
        expected = ranked[of_category][:50].tolist()
        with session.transaction(engine) as connection:
            prefer_index(connection)  # so few rows are sooner sorted
            before = scans(connection, "by_vector")
            found = rows(connection, f"nearest(7, 'vivit', 50, '{category}')")
            used = scans(connection, "by_vector") - before
        assert used == (category == "common"), category
        assert [distance for _, distance in found] == sorted(distance for _, distance in found)
        assert len(found) == 50
        right = len(set(expected) & {video for video, _ in found})
        assert right == 50 if category == "rare" else right >= 48, (category, right)
    with session.transaction(engine) as connection:  # more than there are, by name, and none of it
        assert len(rows(connection, "nearest(7, 'vivit', 500, 'rare')")) == MANY // 100
        assert len(rows(connection, "nearest(7, 'vivit', category => 'rare')")) == 10
        assert len(rows(connection, "nearest(7, 'vivit')")) == 10
        query = "'{1,1,1,1}'"
        assert len(rows(connection, f"nearest_to({query}, 'vivit', category => 'rare')")) == 10
        execute(
            engine, "INSERT INTO reelvec.videos (uri, category) VALUES ('file:///new', 'empty')"
        )
        assert rows(connection, "nearest(7, 'vivit', 10, 'empty')") == []


def test_windows_are_found_with_their_seconds_with_an_index_and_without(engine: Engine) -> None:
    encoder, windows = crowd(engine, 1_000)
    filled_windows(engine, encoder, windows)
    execute(engine, "ANALYZE")
    query = windows[4, 2]
    flat = order(windows.reshape(-1, DIM), query)
    expected = [(int(at // WINDOWS) + 1, int(at % WINDOWS)) for at in flat]
    expected = [one for one in expected if one[0] != 5]
    rare = [one for one in expected if one[0] % 100 == 0]
    for has_index in (False, True):
        if has_index:
            execute(engine, WINDOW_INDEX.format(dim=DIM, encoder_id=encoder.encoder_id))
        with session.transaction(engine) as connection:
            prefer_index(connection)
            found = rows(connection, "nearest_windows(5, 2, 'vivit', 20)")
            assert len(set(expected[:20]) & {(video, at) for video, at, *_ in found}) >= 19
            assert all(row[2:4] == (10.0 * row[1], 10.0 * (row[1] + 1)) for row in found)
            few = rows(connection, "nearest_windows(5, 2, 'vivit', 20, 'rare')")
            assert [(video, at) for video, at, *_ in few] == rare[:20]
            own = rows(
                connection, f"nearest_windows_to('{{{','.join(map(str, query))}}}', 'vivit', 1)"
            )
            assert own[0][:2] == (5, 2)
            assert own[0][4] == pytest.approx(0, abs=1e-3)
            if has_index:
                assert scans(connection, "by_window") == 2, "not for the rare category"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("nearest(1, 'vivit', 5, 'flims')", "no video has the category 'flims'"),
        ("nearest_windows(1, 3, 'vivit')", "video 1 has no window 3 of vivit; it has 0 to 2"),
        ("nearest_windows(1, NULL, 'vivit')", "video 1 has no window NULL of vivit"),
        ("nearest_windows(9, 0, 'vivit')", "there is no video 9"),
        ("nearest_windows(1, 0, 'vivvit')", "did you mean vivit?"),
        (
            "nearest_windows_to('{1}', 'vivit')",
            "vectors of vivit have 2 numbers, the one given has 1",
        ),
    ],
)
def test_a_mistake_is_told_in_words(engine: Engine, call: str, told: str) -> None:
    encoder = bound(engine, "vivit", 2)
    filled(engine, encoder, np.ones((1, 2), np.float32))
    filled_windows(engine, encoder, np.ones((1, 3, 2), np.float32))
    with (
        pytest.raises(DBAPIError, match=told.replace("?", r"\?")),
        session.transaction(engine) as connection,
    ):
        rows(connection, call)
