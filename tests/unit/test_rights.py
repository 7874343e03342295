"""Who may write what is said once, and every statement of this project is within it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from db import rights
from db.rights import ENQUEUER, WORKER, Right

DB = Path(rights.__file__).parent
STATEMENT = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM) reelvec\.(\w+)")
#: Cures that `doctor --data` prints for an administrator.
NOT_OURS = {"invariants.py"}


def written() -> set[tuple[str, str]]:
    found = {
        (verb.split()[0], table)
        for path in DB.glob("*.py")
        if path.name not in NOT_OURS
        for verb, table in STATEMENT.findall(path.read_text(encoding="utf-8"))
    }
    copied = {("INSERT", table) for table in ("embeddings", "window_embeddings", "scores")}
    return found | copied


def test_every_statement_is_granted_to_somebody() -> None:
    granted = {(right.privilege, right.table) for role in (ENQUEUER, WORKER) for right in rights.rights(role)}
    assert len(written()) > 15
    assert written() - granted == set()


def test_a_worker_deletes_in_its_results_and_in_what_it_says_of_itself_only() -> None:
    deletes = {right.table for right in rights.rights(WORKER) if right.privilege == "DELETE"}
    assert deletes == {"embeddings", "window_embeddings", "scores", "workers", "place_workers"}
    assert not [right for right in rights.rights(ENQUEUER) if right.privilege == "DELETE"]


def test_columns_are_taken_apart() -> None:
    assert [right for right in rights.rights(WORKER) if right.table == "encoders"] == [
        Right(WORKER, "encoders", "UPDATE", column) for column in ("weights_digest", "dim", "pooling")
    ]
    assert Right(WORKER, "scores", "DELETE", None) in rights.rights(WORKER)


@pytest.mark.parametrize(
    ("said", "statement", "lacks"),
    [
        ("permission denied for table jobs", "UPDATE reelvec.jobs SET x = 1", "UPDATE on jobs"),
        ("permission denied for table videos", "WITH made AS (INSERT INTO reelvec.videos (uri) ...", "INSERT on videos"),
        ("permission denied for table scores", "DELETE FROM reelvec.scores WHERE ...", "DELETE on scores"),
        ("permission denied for table embeddings", "COPY reelvec.embeddings (a) FROM STDIN", "INSERT on embeddings"),
        ("permission denied for view tags", "SELECT * FROM tags", "SELECT on tags"),
        ("permission denied for schema reelvec", "SELECT 1", "a right"),
        ("permission denied for table jobs", None, "a right"),
    ],
)  # fmt: skip
def test_the_missing_right_is_named_where_postgres_names_the_object_only(
    said: str, statement: str | None, lacks: str
) -> None:
    error = rights.refusal("postgresql://h/v", said, statement)
    assert f"refused: {said}. This role lacks {lacks}: " in str(error)
    assert error.exit_code == 78
