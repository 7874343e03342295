"""Videos that are nearly the same: the pairs of the database's function, their groups, and which
one is kept.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from db import session
from db.administration import indexes
from db.errors import UsageError
from db.jobs.selection import Selection
from producer.cli import reelvec
from producer.results import dedupe
from tests.ledgering import execute
from tests.vectors import bound, filled

PAGE = Path(__file__).parents[2] / "docs" / "tagging.md"
DIM, ABOVE = 16, 0.95
MANY = range(1, 21)
"""Nearly one video, and more of them than are asked for at first."""
CHAIN = (21, 22, 23)
"""The second is near both others, which are not near each other."""


def at(*angles: float) -> np.ndarray:
    """Vectors of a plane."""
    made = np.zeros((len(angles), DIM), np.float32)
    made[:, 0], made[:, 1] = np.cos(angles), np.sin(angles)
    return made


@pytest.fixture
def vectors(engine: Engine) -> np.ndarray:
    """Of 60 videos: `MANY`, `CHAIN`, and others that have nothing to do with each other."""
    chance = np.random.default_rng(3)
    one = chance.standard_normal(DIM).astype(np.float32)
    many = one + 0.05 * chance.standard_normal((len(MANY), DIM)).astype(np.float32)
    others = chance.standard_normal((37, DIM)).astype(np.float32)
    made = np.concatenate([many, at(0, 0.3, 0.6), others])
    filled(engine, bound(engine, "vivit", DIM), made)
    execute(
        engine,
        "UPDATE reelvec.videos SET width_px = 100, height_px = 100, size_bytes = 1000 + video_id,"
        " added_at = now() - make_interval(days => video_id::int), category = 'films',"
        " title = 'no. \"' || video_id || '\"'",
    )
    return made


def by_hand(vectors: np.ndarray, above: float) -> set[tuple[int, int]]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.argwhere(np.triu(unit @ unit.T >= above, 1)) + 1
    return {(int(one), int(other)) for one, other in near}


def asked(engine: Engine, arguments: str, *, by_index: bool = False) -> list[tuple[int, int]]:
    with session.transaction(engine) as connection:
        if by_index:
            connection.exec_driver_sql(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"
            )
        rows = connection.execute(text(f"SELECT * FROM reelvec.near_duplicates({arguments})")).all()
    assert all(0 <= row.distance + 1e-3 <= 1 - ABOVE + 2e-3 for row in rows)
    return [(row.video_id, row.other_id) for row in rows]


def test_pairs_are_those_found_by_hand_each_once_with_and_without_an_index(
    engine: Engine, vectors: np.ndarray
) -> None:
    expected = by_hand(vectors, ABOVE)
    assert len(expected) == 20 * 19 / 2 + 2
    encoder = bound(engine, "x-clip", DIM)  # of other vectors nothing is looked at
    execute(
        engine,
        "INSERT INTO reelvec.video_embeddings SELECT :other, video_id, :same, dtype, worker_id"
        " FROM reelvec.video_embeddings",
        other=encoder.encoder_id,
        same=str(vectors[0].tolist()),
    )
    for by_index in (False, True):
        if by_index:
            with session.transaction(engine) as connection:
                vivit = connection.execute(text("SELECT min(encoder_id) FROM reelvec.encoders"))
                number = vivit.scalar_one()
            made = f"((embedding::halfvec({DIM})) halfvec_cosine_ops) WHERE encoder_id = {number}"
            execute(engine, f"CREATE INDEX ON reelvec.video_embeddings USING hnsw {made}")
        found = asked(engine, f"'vivit', {ABOVE}", by_index=by_index)
        assert set(found) == expected
        assert len(found) == len(expected)
        some = asked(engine, f"'vivit', {ABOVE}, ARRAY[7, 8, 22]", by_index=by_index)
        assert set(some) == {pair for pair in expected if {7, 8, 22} & set(pair)}
        assert len(some) == len(set(some))
    assert asked(engine, "'vivit', 1.0, '{}'") == []
    (documented,) = re.findall(r"^ {4}(SELECT [^;]*;)$", PAGE.read_text(encoding="utf-8"), re.M)
    with session.transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL search_path = reelvec, public")
        assert len(connection.exec_driver_sql(documented).all()) == len(expected)


def test_groups_hold_all_that_a_chain_of_pairs_reaches(engine: Engine, vectors: np.ndarray) -> None:
    def groups(selection: Selection, keep: str = "largest") -> list[dedupe.Group]:
        told: list[tuple[int, int]] = []
        made = dedupe.groups(
            engine, "vivit", selection, above=ABOVE, keep=keep,
            tell=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        found = list(made)
        assert not told or told[-1][0] == told[-1][1]
        return found

    many, chain = groups(Selection())
    assert {video.video_id for video in many.videos} == set(MANY)
    assert {video.video_id for video in chain.videos} == set(CHAIN)
    assert (many.kept.video_id, chain.kept.video_id) == (20, 23), "of one size the most bytes"
    assert many.spare_bytes == sum(1000 + number for number in range(1, 20))
    by_id = {video.video_id: video for video in chain.videos}
    assert chain.distance(by_id[22]) == pytest.approx(1 - np.cos(0.3), abs=1e-3)
    assert chain.distance(by_id[21]) is None, "it is near only through another"

    execute(engine, "UPDATE reelvec.videos SET width_px = 101 WHERE video_id IN (3, 22)")
    execute(engine, "UPDATE reelvec.videos SET category = 'music' WHERE video_id = 21")
    execute(engine, "UPDATE reelvec.videos SET added_at = now() WHERE video_id = 23")
    assert [group.kept.video_id for group in groups(Selection())] == [3, 22]
    assert [group.kept.video_id for group in groups(Selection(), "oldest")] == [20, 22]
    (music,) = groups(Selection(categories=("music",)))
    assert {video.video_id for video in music.videos} == {21, 22}, "what is near may be any video"
    assert groups(Selection(uri_prefix="file:///30")) == [], "it is like nothing"
    with pytest.raises(UsageError, match=r"--above 95.0 is no similarity"):
        list(dedupe.groups(engine, "vivit", Selection(), above=95.0, keep="oldest", tell=print))


def test_the_command_lists_them_as_csv_and_json(
    database_url: str,
    broker_url: str,
    vectors: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(reelvec, ["dedupe", "vivit", *arguments])
        assert done.exit_code == 0, done.output
        return done

    file = tmp_path / "copies.csv"
    done = run("--keep", "oldest", "--out", str(file))
    assert done.stderr.splitlines()[-1] == (
        "23 videos in 2 groups of near-duplicates (a cosine of at least 0.95; --above changes it): "
        "21 could go, 21.2 kB"
    )
    assert "has no index" not in done.stderr, "so few are quick enough"
    assert done.stdout == ""
    printed = run("--keep", "oldest").stdout
    assert printed == file.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["keep"] for row in rows] == ["yes", *["no"] * 19, "yes", *["no"] * 2]
    assert [row["group"] for row in rows] == ["1"] * 20 + ["2"] * 3
    assert (rows[0]["title"], rows[0]["distance"]) == ('no. "20"', "")
    assert all(0 <= float(row["distance"]) + 1e-3 < 0.051 for row in rows[1:20])

    monkeypatch.setattr(indexes, "WORTH_VECTORS", 59)
    done = run("--json", "--above", "0.95")
    assert "vivit has no index, so each video is compared with all others" in done.stderr
    many, chain = map(json.loads, done.stdout.splitlines())
    assert len(many["pairs"]) == 190
    assert chain["keep"] == 23
    assert [(pair["video_id"], pair["other_id"]) for pair in chain["pairs"]] == [(21, 22), (22, 23)]
