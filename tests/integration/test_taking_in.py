"""Vectors that were made elsewhere: which videos they go to, that nothing is changed twice, and that
nobody wants to make them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

import reelvec
from db import encoders, session
from db.administration import invariants
from db.errors import UsageError
from db.jobs import abilities
from producer.cli import reelvec as command
from producer.results import export as exporting
from producer.results import old_npz
from producer.results.taking_in import Imported, import_file
from tests import ledgering
from tests.ledgering import execute, one
from tests.vectors import as_stored, bound, filled

DIM = 8
#: Of the notebook's folders: 48 is films, 46 animals.
LABELS = [48, 46, 48, 46, 48]
NAMES = ["a.mp4", "a.mp4", "b ё.mp4", "twice.mp4", "nowhere.mp4"]


def vectors(*shape: int) -> np.ndarray:
    return as_stored(np.random.default_rng(7).standard_normal(shape, dtype=np.float32))


def nothing(done: int, total: int) -> None:
    assert 0 < done <= total


def url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture
def take(engine: Engine, tmp_path: Path) -> Callable[..., Imported]:
    def taken(name: str | None = None, **arrays: np.ndarray) -> Imported:
        path = tmp_path / "Old One.npz"
        np.savez(path, **arrays)
        return import_file(engine, path, name, nothing)

    return taken


@pytest.fixture
def recorded(engine: Engine) -> Engine:
    """1: films/a.mp4, 2: animals/a.mp4, 3: b ё.mp4 without a category, 4 and 5: twice.mp4."""
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri, category) VALUES ('file:///films/a.mp4', 'films'),"
        " ('file:///animals/a.mp4', 'animals'), ('file:///b%20%D1%91.mp4', NULL),"
        " ('s3://b/1/twice.mp4', NULL), ('s3://b/2/twice.mp4', NULL), ('s3://b/c.mp4', 'films')",
    )
    return engine


def test_the_notebooks_file_goes_to_the_videos_of_its_names(
    recorded: Engine, take: Callable[..., Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_npz, "BLOCK_ROWS", 2)
    made = vectors(5, DIM)
    old = {"labels": np.array(LABELS), "filenames": np.array(NAMES), "embeddings": made}
    assert take(**old) == Imported(
        "imported-old-one", 5, written=3, unmatched=1, ambiguous=1, first_unmatched="nowhere.mp4"
    )
    with reelvec.connect(url(recorded)) as catalogue:
        ids, found = catalogue.vectors("imported-old-one")
        assert ids.tolist() == [1, 2, 3]
        np.testing.assert_array_equal(found, made[:3])
        assert len(catalogue.neighbours(1, "imported-old-one", k=5)) == 2
    assert one(recorded, "SELECT category FROM reelvec.videos WHERE video_id = 3") == "films"
    assert one(recorded, "SELECT count(*) FROM reelvec.imported_old_one") == 3

    rows = "SELECT md5(string_agg(m::text, '' ORDER BY video_id)) FROM reelvec.video_embeddings m"
    before = one(recorded, rows)
    again = take(**old)
    assert (again.written, again.already, again.new_videos) == (0, 3, 0)
    assert one(recorded, rows) == before
    old["embeddings"] = made + 1
    with pytest.raises(UsageError, match="video 1 has another vector of imported-old-one already"):
        take(**old)
    old["embeddings"] = vectors(5, 3, DIM)
    assert take("windows", **old).written == 3
    with reelvec.connect(url(recorded)) as catalogue:
        found = catalogue.vectors("windows").vectors
        np.testing.assert_array_equal(found, as_stored(old["embeddings"][:3].mean(axis=1)))
    with pytest.raises(UsageError, match="vectors of windows have 8 numbers, these have 9"):
        take("windows", **{**old, "embeddings": vectors(5, 9)})


def test_a_name_of_two_rows_is_nobodys_and_what_is_new_joins_what_is_there(
    recorded: Engine, take: Callable[..., Imported]
) -> None:
    made = vectors(3, DIM)
    names = np.array(["c.mp4", "c.mp4", "b ё.mp4"])
    found = take("some", filenames=names, embeddings=made)
    assert (found.written, found.ambiguous) == (1, 2), "two rows of one name"
    found = take("some", filenames=names[1:], embeddings=made[1:])
    assert (found.written, found.already, found.ambiguous) == (1, 1, 0)
    with reelvec.connect(url(recorded)) as catalogue:
        ids, stored = catalogue.vectors("some")
        assert ids.tolist() == [3, 6]
        np.testing.assert_array_equal(stored, made[[2, 1]])
    with pytest.raises(
        UsageError, match=r"row 0: file:///n b\.mp4 is stored as file:///n%20b\.mp4"
    ):
        take("more", uris=np.array(["file:///n b.mp4"]), embeddings=made[:1])


def test_what_was_exported_comes_in_again_where_its_videos_are_unknown(
    engine: Engine, empty_database_url: str, tmp_path: Path
) -> None:
    from db import schema

    made = filled(engine, bound(engine, "probe", DIM), vectors(30, DIM))
    execute(engine, "UPDATE reelvec.videos SET category = 'films' WHERE video_id > 10")
    path = tmp_path / "probe.npz"
    exporting.export(engine, "probe", path, windows=False, tell=nothing)
    schema.upgrade(empty_database_url)
    with session.connect(empty_database_url) as other:
        execute(other, "INSERT INTO reelvec.videos (uri) VALUES ('file:///20')")
        assert import_file(other, path, "here", nothing) == Imported(
            "here", 30, written=30, new_videos=29
        )
        assert import_file(other, path, "here", nothing) == Imported("here", 30, already=30)
        facts = "SELECT string_agg(v::text, ',') FROM (SELECT uri, category FROM reelvec.videos ORDER BY 1) v"
        assert one(other, facts) == one(engine, facts)
        assert one(other, "SELECT title FROM reelvec.videos WHERE uri = 'file:///7'") == "7"
        copy = tmp_path / "again.npz"
        exporting.export(other, "here", copy, windows=False, tell=nothing)
    with np.load(path) as first, np.load(copy) as second:
        order = np.argsort(second["uris"])
        np.testing.assert_array_equal(second["embeddings"][order], made[np.argsort(first["uris"])])
    with np.load(copy) as data:
        wrong = {**data, "uris": np.array([*data["uris"][1:], "ftp://host/a.mp4"])}
    np.savez(copy, **wrong)
    with pytest.raises(UsageError, match="uris, row 29: scheme ftp: is not supported"):
        import_file(engine, copy, "new", nothing)


def test_nobody_makes_or_misses_an_imported_encoder(
    recorded: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url(recorded))
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    np.savez(old, filenames=np.array(["c.mp4", "x.mp4"]), embeddings=vectors(2, DIM))
    told = CliRunner().invoke(command, ["db", "import", str(old), "--as", "elsewhere"])
    assert "1 row of no recorded video, for example 'x.mp4'" in told.output
    assert "elsewhere: 1 vector written, 0 there already, 0 new videos" in told.output
    told = CliRunner().invoke(command, ["export", "elsewhere", "--to", str(new)])
    assert f"1 vector of elsewhere written to {new}" in told.output
    parts = ["export", "elsewhere", "--to", str(tmp_path / "parts")]
    assert "1 vector of elsewhere written to" in CliRunner().invoke(command, parts).output
    again = CliRunner().invoke(command, parts).output
    assert "parts has all vectors of elsewhere already: nothing was written" in again
    encoder = ledgering.declare(recorded, "probe")
    wanted = ledgering.Wanted((encoder,), ())
    ledgering.record(recorded, [ledgering.Row("s3://b/c.mp4")], wanted)
    claimed = ledgering.claim(recorded, 6, ledgering.worker(recorded))
    assert claimed is not None
    assert claimed.encoders == (encoder,)
    with session.transaction(recorded) as connection:
        assert [made.name for made in encoders.wanted_encoders(connection)] == ["probe"]
        able = abilities.of_worker(connection, abilities.Ability(models=("elsewhere", "probe")))
    assert list(able.values()) == ["probe"]
    broken = [
        checked.invariant.name
        for checked in invariants.check_all(recorded, timeout_seconds=60)
        if checked.count
    ]
    assert broken == ["videos without a job"]
    refused = CliRunner().invoke(command, ["enqueue", "--backbone", "elsewhere"])
    assert "'elsewhere' is no backbone; there are vivit" in str(refused.exception)
    for arguments in (["status", "--json"], ["models", "list"]):
        assert "elsewhere" not in CliRunner().invoke(command, arguments).output


def test_files_that_are_no_vectors_of_videos_are_told(
    recorded: Engine, take: Callable[..., Imported], tmp_path: Path
) -> None:
    made, names = vectors(2, DIM), np.array(["a.mp4", "c.mp4"])
    zero = made * np.array([[1], [0]], np.float32)
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({"filenames": names}, "and no embeddings.npy"),
        ({"embeddings": made}, "it needs filenames or uris"),
        ({"embeddings": made, "filenames": names[:1]}, r"filenames are \[1\], the videos 2"),
        ({"embeddings": made[0], "filenames": names}, r"have the shape \[8\]"),
        ({"embeddings": np.asfortranarray(made), "filenames": names}, "stored by column"),
        ({"embeddings": made.astype(object), "filenames": names}, "embeddings are Python objects"),
        ({"embeddings": made, "filenames": names.astype(object)}, "filenames are Python objects"),
        ({"embeddings": made.astype("U8"), "filenames": names}, "embeddings are <U8, not numbers"),
        ({"embeddings": zero, "filenames": names}, "the vector of row 1 is all zeros"),
        ({"embeddings": made * 1e6, "filenames": names}, "row 0 is all zeros or not finite"),
        ({"embeddings": made * 1e-9, "filenames": names}, "row 0 is all zeros or not finite"),
        (
            {"embeddings": np.full((2, 3, 4), 0.25), "filenames": names},
            "these are probabilities, not vectors",
        ),
        (
            {"embeddings": made, "filenames": np.array(["x", "y"])},
            "none of 2 rows is of a recorded",
        ),
    ]
    for arrays, told in cases:
        with pytest.raises(UsageError, match=told):
            take(**arrays)
    for name, told in (
        ("vivit-uniform", "vectors that workers make have this name"),
        ("x/y", "write small letters, digits and -"),
    ):
        with pytest.raises(UsageError, match=told):
            take(name, embeddings=made, filenames=names)
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(UsageError, match=r"it is no \.npz file"):
        import_file(recorded, tmp_path / "text.npz", None, nothing)
    assert one(recorded, "SELECT count(*) FROM reelvec.encoders") == 0
