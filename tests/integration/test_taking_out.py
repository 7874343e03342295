"""What users take out: the arrays of `import reelvec`, and the files of `reelvec export`."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

import reelvec
from db import copy, session
from db.encoders import Encoder
from db.errors import UsageError
from db.results import vectors as stored
from producer.results import export as desk
from tests.ledgering import execute
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
    return bound(engine, "probe", DIM)


@pytest.fixture
def made(engine: Engine, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """25 videos in blocks of 10, the last of them without a category, each with two windows."""
    monkeypatch.setattr(stored, "BLOCK_ROWS", 10)
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
        blocks = stored.pooled_blocks(connection, encoder)
        assert len(next(blocks).video_ids) == 10
        execute(engine, "DELETE FROM reelvec.videos WHERE video_id > 12")  # by somebody else
        assert sum(len(block.video_ids) for block in blocks) == 15


def test_scores_are_one_array(engine: Engine, encoder: Encoder, made: np.ndarray) -> None:
    from db import encoders
    from tests.ledgering import LABELS

    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, encoder.encoder_id or 0, "probe", LABELS)
    for video_id in (2, 1):
        execute(
            engine,
            "INSERT INTO reelvec.scores VALUES (:tagger, :video, :p, :p, 'cats', 0.75, :worker)",
            tagger=tagger,
            video=video_id,
            p=[0.75, 0.25 / video_id],
            worker=uuid4(),
        )
    with reelvec.connect(url(engine)) as catalogue:
        ids, categories, probabilities = catalogue.scores("probe/pets")
        assert categories == ["cats", "dogs"]
        np.testing.assert_array_equal(ids, [1, 2])
        np.testing.assert_array_equal(probabilities, np.float32([[0.75, 0.25], [0.75, 0.125]]))
        with pytest.raises(UsageError, match=r"there is no tagger 'x'; there are probe/pets"):
            catalogue.scores("x")


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

    windows = tmp_path / "windows.npz"
    assert desk.export(engine, "probe", windows, windows=True, tell=nothing) == 50
    with np.load(windows) as data:
        assert data["embeddings"].shape == (50, DIM)
        assert data["window_index"].tolist() == [0, 1] * 25
        assert data["filenames"][:3].tolist() == ["1 ё.mp4", "1 ё.mp4", "2 ё.mp4"]


def test_tables_hold_every_float(engine: Engine, made: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "probe.csv"
    desk.export(engine, "probe", path, windows=False, tell=nothing)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [np.float32(row["vector"].strip("[]").split(",")) for row in rows]
    np.testing.assert_array_equal(np.stack(cells), made)
    assert rows[6]["title"] == "no. 7"
    assert rows[24]["category"] == ""

    path = tmp_path / "probe.parquet"
    desk.export(engine, "probe", path, windows=True, tell=nothing)
    table = parquet.read_table(path)
    assert table.num_rows == 50
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: float>[{DIM}]"
    assert table.column("category").to_pylist()[-1] is None
    assert table.column("end_seconds").to_pylist()[:2] == [2.0, 4.5]


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


def test_what_cannot_be_exported_is_told(engine: Engine, tmp_path: Path) -> None:
    bound(engine, "probe", DIM)
    for name, target, told in (
        ("prob", "x.npz", "there is no encoder 'prob'; there are probe"),
        ("probe", "x.npz", "probe has no vectors yet"),
        ("probe", "x.xlsx", r"give a name that ends in \.npz, \.parquet, \.csv"),
    ):
        with pytest.raises(UsageError, match=told):
            desk.export(engine, name, tmp_path / target, windows=False, tell=nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_broken_off_does_not_appear(
    engine: Engine, made: np.ndarray, tmp_path: Path
) -> None:
    def tell(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.export(engine, "probe", tmp_path / "x.npz", windows=False, tell=tell)
    assert list(tmp_path.iterdir()) == []
    assert not zipfile.is_zipfile(tmp_path / "x.npz")
