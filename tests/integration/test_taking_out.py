"""What users take out: the arrays of `import reelvec`, and the files of `reelvec export`."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

import reelvec
from db import copy, encoders, session
from db.encoders import Encoder
from db.errors import ReelvecError, UsageError
from db.results import arrays
from db.results import vectors as stored
from producer.results import export as desk
from producer.results import mapping
from tests.ledgering import LABELS, execute, read
from tests.vectors import as_stored, bound, filled

DIM = 8


def nothing(done: int, total: int) -> None:
    assert 0 < done <= total


class EmbeddingStorage:
    """Reads a file as the notebook does."""

    def __init__(self, path: Path) -> None:
        data = np.load(path)
        self.labels = data["labels"]
        self.filenames = data["filenames"]
        self.embeddings = data["embeddings"]

    def get_embedding_by_filename(self, filename: str) -> np.ndarray:
        return self.embeddings[np.where(self.filenames == filename)[0][0]]


@pytest.fixture
def encoder(engine: Engine) -> Encoder:
    """Of two windows a video."""
    made = bound(engine, "probe", DIM)
    execute(engine, "UPDATE reelvec.encoders SET frames_per_window = 48")
    return made


@pytest.fixture
def made(engine: Engine, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """25 videos in blocks of 10, the last of them without a category, each with two windows."""
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 10)
    vectors = as_stored(np.random.default_rng(0).standard_normal((25, DIM), dtype=np.float32))
    filled(engine, encoder, vectors)
    execute(
        engine,
        "UPDATE reelvec.videos SET category = 'films', title = 'no. ' || video_id,"
        " uri = 'file:///films/' || video_id || '%20%D1%91.mp4' WHERE video_id < 25",
    )
    columns = {
        "encoder_id": copy.smallint,
        "video_id": copy.bigint,
        "window_index": copy.smallint,
        "start_seconds": copy.real,
        "end_seconds": copy.real,
        "embedding": copy.halfvec,
    }
    rows = [
        (encoder.encoder_id, number, window, 2.5 * window, 2.5 * window + 2, vector / (1 + window))
        for number, vector in enumerate(vectors, 1)
        for window in range(2)
    ]
    with session.transaction(engine) as connection:
        copy.copy_rows(connection, "reelvec.window_embeddings", columns, rows)
    return vectors


def url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def test_vectors_are_one_array_of_one_moment(
    engine: Engine, encoder: Encoder, made: np.ndarray
) -> None:
    with reelvec.connect(url(engine)) as catalogue:
        assert catalogue.encoders() == ["probe"]
        ids, vectors = catalogue.vectors("probe")
        np.testing.assert_array_equal(ids, np.arange(1, 26))
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, made)

        windows = catalogue.windows("probe")
        np.testing.assert_array_equal(windows.video_ids, np.repeat(np.arange(1, 26), 2))
        np.testing.assert_array_equal(windows.window_index, np.tile([0, 1], 25))
        np.testing.assert_array_equal(windows.spans_seconds[:2], [[0, 2], [2.5, 4.5]])
        halves = made.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(windows.vectors[::2], halves)

        nearest = catalogue.neighbours(3, "probe", k=4)
        unit = made / np.linalg.norm(made, axis=1, keepdims=True)
        order = np.argsort(-(unit @ unit[2]))[1:5] + 1
        assert [hit.video_id for hit in nearest] == order.tolist()

        with pytest.raises(UsageError, match=r"there is no encoder 'prob'; there are probe"):
            catalogue.vectors("prob")
    with stored.snapshot(engine) as connection:
        read = stored.pooled_blocks(connection, encoder)
        assert len(next(read).video_ids) == 10
        execute(engine, "DELETE FROM reelvec.videos WHERE video_id > 12")  # by somebody else
        assert sum(len(block.video_ids) for block in read) == 15


def test_a_vector_of_another_length_is_told_and_not_misread(
    engine: Engine, encoder: Encoder, made: np.ndarray
) -> None:
    for wrong in ("[1,2,3,4,5,6,7]", "[1,2,3,4,5,6,7,8,9]"):
        execute(
            engine,
            "UPDATE reelvec.video_embeddings SET embedding = CAST(:wrong AS halfvec) WHERE video_id = 3",
            wrong=wrong,
        )
        with (
            reelvec.connect(url(engine)) as catalogue,
            pytest.raises(ReelvecError, match="not all of one length: reelvec doctor --data"),
        ):
            catalogue.vectors("probe")


@pytest.fixture
def scored(engine: Engine, encoder: Encoder, made: np.ndarray) -> np.ndarray:
    """Probabilities [25, 2, 2] of two windows and two pets."""
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, encoder.encoder_id or 0, "probe", LABELS)
    cats = np.linspace(0.1, 0.9, 50, dtype=np.float32).reshape(25, 2)
    windows = np.stack([cats, 1 - cats], axis=2)
    columns = {
        "tagger_id": copy.smallint,
        "video_id": copy.bigint,
        "probabilities": copy.real_array,
        "window_probabilities": copy.real_array,
        "tag": copy.text,
        "probability": copy.real,
        "worker_id": copy.uuid,
    }
    rows = [
        (tagger, number, of_video.mean(axis=0), of_video, "cats", 0.75, uuid4())
        for number, of_video in enumerate(windows, 1)
    ]
    with session.transaction(engine) as connection:
        copy.copy_rows(connection, "reelvec.scores", columns, rows)
    return windows


def test_scores_are_one_array(engine: Engine, scored: np.ndarray) -> None:
    with reelvec.connect(url(engine)) as catalogue:
        ids, categories, probabilities = catalogue.scores("probe/pets")
        assert categories == ["cats", "dogs"]
        np.testing.assert_array_equal(ids, np.arange(1, 26))
        assert probabilities.dtype == np.float32
        np.testing.assert_array_equal(probabilities, scored.mean(axis=1))
        with pytest.raises(UsageError, match=r"there is no tagger 'x'; there are probe/pets"):
            catalogue.scores("x")
        execute(
            engine,
            "UPDATE reelvec.taggers SET categories = array(SELECT CAST(i AS text) FROM "
            "generate_series(1, 201) i)",
        )
        with pytest.raises(UsageError, match="201 categories, of which only the best 20"):
            catalogue.scores("probe/pets")


def test_a_frame_is_the_table_of_the_parquet_file(
    engine: Engine, scored: np.ndarray, made: np.ndarray, tmp_path: Path
) -> None:
    execute(engine, "UPDATE reelvec.encoders SET weights = 'pretrained'")
    for name, windows in (("probe", False), ("probe", True), ("probe/pets", True)):
        path = tmp_path / "x.parquet"
        desk.export(engine, name, path, windows=windows, tell=nothing)
        with reelvec.connect(url(engine)) as catalogue:
            table = catalogue.frame(name, windows=windows)
        assert table.equals(parquet.read_table(path))
    assert table.column("tag").to_pylist() == ["cats"] * 50
    assert table.column("window_index").to_pylist() == [0, 1] * 25
    assert table.schema.metadata[b"categories"] == b"cats\ndogs"
    found = np.array(table.column("probabilities").to_pylist(), np.float32)
    np.testing.assert_array_equal(found.reshape(25, 2, 2), scored)


def test_an_npz_is_what_the_notebook_reads(
    engine: Engine, made: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "probe.npz"
    assert desk.export(engine, "probe", path, windows=False, tell=nothing) == 25
    found = EmbeddingStorage(path)
    np.testing.assert_array_equal(found.embeddings, made)
    np.testing.assert_array_equal(found.get_embedding_by_filename("7 ё.mp4"), made[6])
    assert found.labels.tolist() == [48] * 24 + [-1]
    with np.load(path) as data:
        assert data["video_ids"].tolist() == list(range(1, 26))
        assert data["uris"][24] == "file:///25"
        assert data["categories"].tolist() == ["films"] * 24 + [""]


def test_windows_and_scores_make_the_two_files_of_x_clip(
    engine: Engine, made: np.ndarray, scored: np.ndarray, tmp_path: Path
) -> None:
    vectors, probabilities = tmp_path / "xclip_emb.npz", tmp_path / "xclip_prob.npz"
    told: list[tuple[int, int]] = []
    tell = lambda *said: told.append(said)  # noqa: E731
    assert desk.export(engine, "probe", vectors, windows=True, tell=tell) == 50
    assert told == [(done, 50) for done in range(10, 51, 10)], "vectors, not videos"
    assert desk.export(engine, "probe/pets", probabilities, windows=True, tell=nothing) == 50
    found = EmbeddingStorage(vectors)
    halves = made.astype(np.float16).astype(np.float32)
    assert found.embeddings.shape == (25, 2, DIM)
    np.testing.assert_array_equal(found.embeddings[:, 0], halves)
    np.testing.assert_array_equal(found.get_embedding_by_filename("7 ё.mp4")[0], halves[6])
    assert found.labels.tolist() == [48] * 24 + [-1]
    with np.load(vectors) as data:
        assert data["spans_seconds"].tolist() == [[[0, 2], [2.5, 4.5]]] * 25
    found = EmbeddingStorage(probabilities)
    np.testing.assert_array_equal(found.embeddings, scored)
    with np.load(probabilities) as data:
        assert data["tags"].tolist() == ["cats", "dogs"]
    mean = tmp_path / "mean.npz"
    assert desk.export(engine, "probe/pets", mean, windows=False, tell=nothing) == 25
    np.testing.assert_array_equal(EmbeddingStorage(mean).embeddings, scored.mean(axis=1))


def cells(path: Path, column: str) -> np.ndarray:
    """The numbers of a CSV file, as JSON reads them."""
    with path.open(encoding="utf-8", newline="") as file:
        return np.array([json.loads(row[column]) for row in csv.DictReader(file)], np.float32)


def test_tables_hold_every_float(
    engine: Engine, made: np.ndarray, scored: np.ndarray, tmp_path: Path
) -> None:
    halves = made.astype(np.float16).astype(np.float32)
    path = tmp_path / "probe.csv"
    for name, windows, column, expected in (
        ("probe", False, "vector", made),
        ("probe", True, "vector", np.stack([halves, (made / 2).astype(np.float16)], axis=1)),
        ("probe/pets", False, "probabilities", scored.mean(axis=1)),
        ("probe/pets", True, "probabilities", scored),
    ):
        desk.export(engine, name, path, windows=windows, tell=nothing)
        found = cells(path, column)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[13]["title"] == "no. 7"
    assert rows[13]["window_index"] == "1"
    assert rows[48]["category"] == ""

    path = tmp_path / "probe.parquet"
    desk.export(engine, "probe", path, windows=False, tell=nothing)
    table = parquet.read_table(path)
    found = np.array(table.column("vector").to_pylist(), np.float32)
    np.testing.assert_array_equal(found, made)
    desk.export(engine, "probe", path, windows=True, tell=nothing)
    table = parquet.read_table(path)
    assert table.num_rows == 50
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: float>[{DIM}]"
    assert table.column("category").to_pylist()[-1] is None
    assert table.column("end_seconds").to_pylist()[:2] == [2.0, 4.5]


def test_a_parquet_file_has_the_places_of_the_map_once_there_is_one(
    engine: Engine, made: np.ndarray, tmp_path: Path
) -> None:
    mapping.make(engine, "probe", None, anew=False, who="me", tell=lambda *_: None)
    execute(engine, "DELETE FROM reelvec.map_points WHERE video_id IN (3, 25)")
    places = {
        row.video_id: (row.x, row.y)
        for row in read(
            engine,
            lambda c: c.exec_driver_sql(
                "SELECT video_id, x::float, y::float FROM reelvec.coordinates"
            ).all(),
        )
    }
    assert len(places) == 23
    path = tmp_path / "probe.parquet"
    for windows in (False, True):
        desk.export(engine, "probe", path, windows=windows, tell=nothing)
        table = parquet.read_table(path)
        assert str(table.schema.field("projection_x").type) == "float"
        found = zip(*(table.column(name).to_pylist() for name in ("video_id", "projection_x", "projection_y")), strict=True)  # fmt: skip
        assert [(x, y) for _, x, y in found] == [
            places.get(video_id, (None, None)) for video_id in table.column("video_id").to_pylist()
        ]


def test_a_folder_is_gone_on_with(
    engine: Engine, made: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PART_BLOCKS", 1)
    folder = tmp_path / "parts"
    stops = iter([False, True])

    def tell(done: int, total: int) -> None:
        if next(stops):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.export(engine, "probe", folder, windows=False, tell=tell)
    names = ["probe-000000000010.parquet", "probe-000000000020.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert desk.export(engine, "probe", folder, windows=False, tell=nothing) == 5
    parts = [parquet.read_table(path) for path in sorted(folder.iterdir())]
    assert [part.num_rows for part in parts] == [10, 10, 5]
    found = np.concatenate([np.array(part.column("vector").to_pylist()) for part in parts])
    np.testing.assert_array_equal(found.astype(np.float32), made)
    execute(engine, "DELETE FROM reelvec.videos WHERE video_id = 4")
    with pytest.raises(
        UsageError, match="25 vectors of the videos up to 25, of which there are now 24"
    ):
        desk.export(engine, "probe", folder, windows=False, tell=nothing)
    # windows go beside them, and are counted as what they are
    assert desk.export(engine, "probe", folder, windows=True, tell=nothing) == 48
    assert desk.export(engine, "probe", folder, windows=True, tell=nothing) == 0
    parts = sorted(path.name for path in folder.iterdir() if "windows" in path.name)
    assert parts[0] == "probe-windows-000000000006.parquet", "five videos fill a block, 4 is gone"


def test_what_cannot_be_exported_is_told(engine: Engine, tmp_path: Path) -> None:
    bound(engine, "probe", DIM)
    for name, target, told in (
        (
            "genres",
            "x.npz",
            "there is no encoder and no tagger 'genres'; the encoders are probe; the taggers are "
            "none",
        ),
        ("probe", "x.npz", "probe has no vectors yet"),
        ("probe/cars", "x.npz", "there is no encoder and no tagger 'probe/cars'; the encoders"),
        ("probe", "x.xlsx", r"give a name that ends in \.npz, \.parquet, \.csv"),
        ("probe", "vivit", "vivit is a file there: give a name that ends in"),
    ):
        (tmp_path / "vivit").write_text("somebody's")
        with pytest.raises(UsageError, match=told):
            desk.export(engine, name, tmp_path / target, windows=False, tell=nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["vivit"]


def test_taggers_are_told_beside_encoders(
    engine: Engine, scored: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"'genres'; the encoders are probe; the taggers are probe/"
    ):
        desk.export(engine, "genres", tmp_path / "x.npz", windows=False, tell=nothing)


def test_a_file_that_is_broken_off_does_not_appear(
    engine: Engine, made: np.ndarray, tmp_path: Path
) -> None:
    def tell(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.export(engine, "probe", tmp_path / "x.npz", windows=False, tell=tell)
    assert list(tmp_path.iterdir()) == []
    assert not zipfile.is_zipfile(tmp_path / "x.npz")
