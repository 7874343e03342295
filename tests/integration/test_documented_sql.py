"""Every SQL statement and every Python block of the pages runs as printed, on a small filled
database.
"""

from __future__ import annotations

import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from db import encoders, session
from db.errors import ErrorClass, ReelvecError, UsageError
from db.jobs.outcome import Failure, Outcome
from producer import categories
from producer.cli import reelvec
from producer.request import declared_encoder
from tests import ledgering, logins
from tests.ledgering import execute
from tests.vectors import bound, filled

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "docs/guide.md", "docs/notebook.md", "docs/python.md")
PAGES = [ROOT / name for name in NAMES]
COMMAND = re.compile(r'reelvec db sql (--write )?"([^"]+)"')
#: Statements that stand alone, in lines of code.
ALONE = re.compile(r"^ {4}(SELECT [^;`]*?;)$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^ {4}import .*\n(?:(?: {4}.*)?\n)*", re.MULTILINE)


def statements(page: Path) -> list[tuple[bool, str]]:
    """Whether it writes, and what it says."""
    text = page.read_text(encoding="utf-8")
    alone = [(False, textwrap.dedent(f"    {found}")) for found in ALONE.findall(text)]
    return [(bool(write), statement) for write, statement in COMMAND.findall(text)] + alone


SCORES = """
INSERT INTO reelvec.scores
SELECT t.tagger_id, video_id, array_fill(1.0 / :tags, ARRAY[:tags]), array_fill(1.0 / :tags, ARRAY[3, :tags]),
  t.categories[1], 0.5, gen_random_uuid()
FROM reelvec.videos, reelvec.taggers t WHERE t.tagger_id = :tagger
"""


@pytest.fixture
def library(
    engine: Engine, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """What a first hour leaves: 50 videos, two models, the shipped labels, a failure. The addresses
    of its logins.
    """
    vivit, xclip = bound(engine, "vivit", 768), bound(engine, "x-clip", 512)
    numbers = np.random.default_rng(0)
    filled(engine, vivit, numbers.standard_normal((50, 768)).astype(np.float32))
    assert xclip.encoder_id is not None
    for labels in categories.label_sets_shipped():
        with session.transaction(engine) as connection:
            tagger = encoders.declare_tagger(connection, xclip.encoder_id, "x-clip", labels)
        execute(engine, SCORES, tags=len(labels.categories), tagger=tagger)
    execute(
        engine,
        "UPDATE reelvec.videos SET category = 'films', uri = 's3://b/кот' || video_id,"
        " title = CASE video_id WHEN 7 THEN 'Cat' ELSE 'one' END",
    )
    execute(engine, "INSERT INTO reelvec.jobs (video_id, encoders, state, error_code, error, bytes_read, finished_at)"
                    " SELECT video_id, '{1}', CASE video_id WHEN 50 THEN 'failed' ELSE 'done' END, 'truncated', 'ends early',"
                    " 1000, now() FROM reelvec.videos")  # fmt: skip
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    with logins.made(database_url) as addresses:
        yield {**addresses, "owner": database_url}


#: Statements about what a reader may or may not have: they need not give rows here.
WITHOUT_ROWS = ("CREATE", "DELETE", "DROP")


def test_every_statement_runs_for_a_reader_and_gives_rows(
    library: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [statement for page in PAGES for statement in statements(page)]
    assert len(found) > 12
    for write, statement in sorted(found):  # those that write come last
        monkeypatch.setenv("DATABASE_URL", library["owner" if write else "guest"])
        result = CliRunner().invoke(
            reelvec, ["db", "sql", *(["--write"] if write else []), statement]
        )
        assert result.exit_code == 0, (statement, result.exception)
        rows = result.stdout.splitlines()[1:]
        assert rows or statement.startswith(WITHOUT_ROWS), statement
        if "best_tags" in statement:
            assert len(rows) == 50, "one row a video"
        if "nearest(42" in statement:
            assert len(rows) == 10


def test_the_python_of_the_guide_gives_numbers(
    library: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", library["guest"])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    (block,) = PYTHON.findall((ROOT / "docs/guide.md").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    exec(compile(textwrap.dedent(block), "guide.md", "exec"), names)
    vectors = names["vectors"]
    assert isinstance(vectors, np.ndarray)
    assert (vectors.dtype, vectors.shape) == (np.float32, (50, 768))
    neighbours = names["neighbours"]
    assert isinstance(neighbours, list)
    assert {video_id for video_id, _ in neighbours[:3]} == {1, 2, 3}


def declared(engine: Engine) -> None:
    """The encoder vivit is what enqueue asks for."""
    facts = vars(declared_encoder("vivit", "pretrained", "notebook"))
    execute(
        engine,
        "UPDATE reelvec.encoders SET (checkpoint, ref, weights, sampling, preprocessing) ="
        " (:checkpoint, :ref, :weights, :sampling, :preprocessing) WHERE encoder = 'vivit'",
        **facts,
    )


def sleep_is(work: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while `wait` sleeps."""
    clock = SimpleNamespace(sleep=work, monotonic=time.monotonic)
    monkeypatch.setattr("producer.wait.time", clock)


def run_python(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(block), "python.md", "exec"), names)
    return names


def test_the_python_of_its_page_gives_arrays(
    library: dict[str, str],
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All blocks but the one that needs a model, which `test_efficientnet` runs."""
    arrays, tables, queueing, _ = PYTHON.findall((ROOT / "docs/python.md").read_text("utf-8"))
    monkeypatch.setenv("DATABASE_URL", library["guest"])
    execute(engine, "UPDATE reelvec.videos SET uri = 's3://videos/cat.mp4' WHERE video_id = 7")
    found = run_python(arrays)
    assert [len(found[name]) for name in ("ids", "nearest", "failed", "tags")] == [50, 10, 1, 50]
    assert len(found["films"]) == 10
    assert 7 not in [hit.video_id for hit in found["films"]]
    found = run_python(tables)
    assert found["films"].num_rows == 50
    assert found["films"].column_names[0] == "video_id"

    declared(engine)
    monkeypatch.setenv("DATABASE_URL", library["owner"])
    monkeypatch.chdir(tmp_path)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (videos / name).write_bytes(b"not looked at")
    worker = ledgering.worker(engine)

    def work(_seconds: float) -> None:
        """What a worker does: one video is embedded, the other fails."""
        for video_id, outcome in (
            (51, Outcome((ledgering.vectors(1, dim=768),))),
            (52, Outcome(failure=Failure("sample", "not_media", ErrorClass.PERMANENT, "no video"))),
        ):
            claimed = ledgering.claim(engine, video_id, worker)
            assert claimed is not None
            ledgering.finish(engine, claimed, outcome)

    sleep_is(work, monkeypatch)
    found = run_python(queueing)
    assert capsys.readouterr().out == "2 queued, 1 done, 1 failed\n"
    assert ledgering.state_of(engine, 51) == "done"


def test_a_catalogue_by_address_is_only_read_and_wait_alone_waits_for_all(
    library: dict[str, str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    import reelvec as package

    with package.connect(library["owner"]) as catalogue:
        for call in (catalogue.enqueue, catalogue.wait):
            with pytest.raises(UsageError, match=r"connect\(\) without an address"):
                call()
        with pytest.raises(ReelvecError, match="there is no video 99"):
            catalogue.neighbours(99, "vivit")
        execute(engine, "UPDATE reelvec.videos SET category = 'animals' WHERE video_id IN (3, 9)")
        near = catalogue.neighbours(3, "vivit", category="Animals")
        assert [hit.video_id for hit in near] == [9]
        assert catalogue.search("3", category="46") == near
        with pytest.raises(UsageError, match="x-clip cannot search by words"):
            catalogue.search("two cats", backbone="x-clip")
    declared(engine)
    monkeypatch.setenv("DATABASE_URL", library["owner"])
    execute(engine, "UPDATE reelvec.jobs SET state = 'queued' WHERE video_id < 4")
    done = "UPDATE reelvec.jobs SET state = 'done' WHERE state = 'queued'"
    sleep_is(lambda _seconds: execute(engine, done), monkeypatch)
    with package.connect() as catalogue:
        assert catalogue.wait().done == 3
        report = catalogue.enqueue(backbones=["vivit"], dry_run=True)
        assert (report.counts.selected, report.counts.already_done) == (50, 49)
        (tmp_path / "a.mp4").write_bytes(b"x")
        catalogue.enqueue(tmp_path, backbones=["vivit"], as_category="filsm", dry_run=True)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "filsm is a new category; did you mean films?" in warned
