"""Rows go into a file and come back in another database, whose extension lies elsewhere."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from db import encoders, schema, session
from db.administration import invariants, rights
from producer.cli import reelvec
from producer.results.taking_in import import_file
from tests import ledgering
from tests.ledgering import execute, one
from tests.vectors import bound, filled, index

Run = Callable[..., Result]


@pytest.fixture
def run(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(database_url, "dump", file)`, in this process."""
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)

    def invoke(url: str, *arguments: object) -> Result:
        monkeypatch.setenv("DATABASE_URL", url)
        return CliRunner().invoke(reelvec, ["db", *map(str, arguments)])

    return invoke


def everything(engine: Engine) -> dict[str, Any]:
    """A digest of each table's rows, the names of views and indexes, and what is nearest."""
    tables = {table for writes in rights.WRITES.values() for table in writes}
    found: dict[str, Any] = {
        table: one(
            engine,
            "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM "
            f"reelvec.{table} t",
        )
        for table in tables
    }
    with session.transaction(engine) as connection:
        for name, query in {
            "relations": "SELECT relname, relkind FROM pg_class WHERE relnamespace = "
            "'reelvec'::regnamespace ORDER BY 1",
            "nearest": "SELECT * FROM reelvec.nearest(7, 'x-clip', 50)",
            "nearest imported": "SELECT * FROM reelvec.nearest(7, 'notebook', 50)",
            "view": "SELECT sum(video_id) FROM reelvec.x_clip",
        }.items():
            found[name] = [tuple(row) for row in connection.exec_driver_sql(query)]
    checked = invariants.check_all(engine, timeout_seconds=60)
    found["doctor --data"] = [(each.invariant.name, each.count, each.example) for each in checked]
    return found


def fill(engine: Engine, folder: Path) -> None:
    """Rows in every kind of table, with a gap in the numbers and what text formats stumble over."""
    encoder = bound(engine, "x-clip", 4)
    filled(engine, encoder, np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32))
    index(engine, encoder)
    assert encoder.encoder_id is not None
    with session.transaction(engine) as connection:
        tagger_id = encoders.declare_tagger(
            connection, encoder.encoder_id, "x-clip", ledgering.LABELS
        )
    names = np.array([str(number) for number in range(1, 61)])
    made_elsewhere = folder / "old.npz"
    np.savez(made_elsewhere, filenames=names, embeddings=np.random.default_rng(2).random((60, 3)))
    import_file(engine, made_elsewhere, "notebook", lambda *_: None)
    made_elsewhere.unlink()
    wanted = ledgering.Wanted((encoder.encoder_id,), (tagger_id,))
    ledgering.record(
        engine, [ledgering.Row("s3://b/ко\tт\n.mp4", attributes={"a": [1, None]})], wanted
    )
    claimed = ledgering.claim(engine, 61, ledgering.worker(engine))
    assert claimed is not None
    rows = ledgering.Outcome(
        (ledgering.vectors(encoder.encoder_id),),
        (ledgering.scores(tagger_id),),
        strip=bytes(range(256)),
    )
    assert ledgering.finish(engine, claimed, rows) == "done"
    execute(
        engine,
        "DELETE FROM reelvec.videos WHERE video_id = 3; CREATE TABLE reelvec.of_somebody (x int)",
    )


def test_a_dump_restored_into_a_fresh_database_is_the_same(
    engine: Engine, database_url: str, empty_database_url: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "all.reelvec"
    fill(engine, tmp_path)
    assert run(database_url, "dump", file).exit_code == 0
    execute(engine, "DROP TABLE reelvec.of_somebody")
    with session.connect(empty_database_url) as other:
        execute(
            other, 'CREATE SCHEMA "my extensions"; CREATE EXTENSION vector SCHEMA "my extensions"'
        )
        result = run(empty_database_url, "restore", file)
        assert result.exit_code == 0, result.exception
        assert everything(other) == everything(engine)
        next_id = "INSERT INTO reelvec.videos (uri) VALUES ('file:///next') RETURNING video_id"
        assert one(other, next_id) == 62
        again = run(empty_database_url, "restore", file)
        assert "has a schema reelvec with rows in " in str(again.exception)
        assert "DROP SCHEMA reelvec CASCADE" in str(again.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["all.reelvec"]


def test_a_restore_that_breaks_off_leaves_no_rows(
    engine: Engine, database_url: str, run: Run, tmp_path: Path
) -> None:
    file, broken = tmp_path / "all.reelvec", tmp_path / "broken.reelvec"
    execute(engine, "INSERT INTO reelvec.videos (uri) VALUES ('file:///1')")
    assert run(database_url, "dump", file).exit_code == 0
    execute(engine, "DELETE FROM reelvec.videos")
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(broken, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, content[:-5] if name == "attempts" else content)
    result = run(database_url, "restore", broken)
    assert result.exit_code == 1
    assert "\n" not in str(result.exception)
    assert one(engine, "SELECT count(*) FROM reelvec.videos") == 0
    assert run(database_url, "restore", file).exit_code == 0, "an empty schema can be filled"


def test_a_dump_replaces_a_file_only_when_it_is_whole(
    engine: Engine, database_url: str, empty_database_url: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "all.reelvec"
    file.write_text("yesterday's")
    assert run(empty_database_url, "dump", file).exit_code == 1, "it has no schema"
    assert file.read_text() == "yesterday's"
    done = run(database_url, "dump", file)
    assert re.search(r"\nreplaced \S+: [0-9.]+ kB; reelvec db restore reads it\n$", done.stderr)
    assert zipfile.is_zipfile(file)
    assert [path.name for path in tmp_path.iterdir()] == ["all.reelvec"]


def test_files_that_are_none_and_of_other_versions_are_told(
    engine: Engine, database_url: str, run: Run, tmp_path: Path
) -> None:
    text_file = tmp_path / "a.sql"
    text_file.write_text("SELECT 1")
    assert "it is not what reelvec db dump writes" in str(
        run(database_url, "restore", text_file).exception
    )
    assert "No such file" in str(run(database_url, "restore", tmp_path / "none").exception)
    assert "there is no folder " in str(
        run(database_url, "dump", text_file / "all.reelvec").exception
    )
    newer = tmp_path / "newer"
    with zipfile.ZipFile(newer, "w") as file:
        file.writestr("about.json", json.dumps({"revision": "9999", "tables": {}, "indexes": {}}))
    told = str(run(database_url, "restore", newer).exception)
    assert f"of revision 9999, this version knows {schema.HEAD}" in told
