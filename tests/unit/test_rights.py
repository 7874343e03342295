"""Who may write what is said once, and every statement of this project is within it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from db.administration import rights
from db.administration.rights import ENQUEUER, WORKER, Right

DB = Path(rights.__file__).parents[1]
STATEMENT = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM) reelvec\.(\w+)")
MODULES_OF_DB = sorted(path for path in DB.rglob("*.py") if "migrations" not in path.parts)
#: Whose statements a module of `db/` holds. `places` holds the feeder's, too, which are every
#: enqueuer's.
MODULES = {
    "backbone_breaker": {WORKER},
    "catalogue": {ENQUEUER},
    "ended": {WORKER},
    "feeding": {ENQUEUER, WORKER},
    "head_tags": {ENQUEUER},
    "heads": {ENQUEUER},
    "labelling": {ENQUEUER},
    "ledger": {WORKER},
    "liveness": {WORKER},
    "lost_messages": {ENQUEUER, WORKER},
    "maps": {ENQUEUER},
    "outcome": {WORKER},
    "packs": {WORKER},
    "places": {WORKER},
    "recheck": {ENQUEUER},
    "references": {WORKER},
    "shared_census": {ENQUEUER, WORKER},
    "steering": {ENQUEUER},
    "tombstones": {WORKER},
}
#: `invariants` holds cures that `doctor --data` prints for an administrator, who alone imports
#: vectors (`taking_in`) and purges frames (`holdings`); of `encoders` each does a part.
OTHERS = {"invariants", "encoders", "holdings", "taking_in"}


def written(module: Path) -> set[tuple[str, str]]:
    return {
        (verb.split()[0], table)
        for verb, table in STATEMENT.findall(module.read_text(encoding="utf-8"))
    }


def granted(role: str) -> set[tuple[str, str]]:
    return {(right.privilege, right.table) for right in rights.rights(role)}


@pytest.mark.parametrize("module", MODULES_OF_DB, ids=lambda path: path.stem)
def test_what_a_module_writes_is_granted(module: Path) -> None:
    roles = MODULES.get(module.stem)
    assert roles or module.stem in OTHERS or not written(module), (
        "say above who runs these statements"
    )
    for role in roles or ():
        assert written(module) - granted(role) == set(), role


def test_encoders_are_declared_by_one_and_bound_by_the_other() -> None:
    assert written(DB / "encoders.py") - granted(ENQUEUER) - granted(WORKER) == set()
    assert written(DB / "ledger.py") >= {("UPDATE", "jobs")}
    assert written(DB / "jobs" / "liveness.py") >= {("INSERT", "workers"), ("DELETE", "workers")}


def test_a_worker_deletes_in_its_results_and_in_what_it_says_of_itself_only() -> None:
    deletes = {right.table for right in rights.rights(WORKER) if right.privilege == "DELETE"}
    results = {"video_embeddings", "embeddings", "window_embeddings", "scores", "strips", "packs"}
    assert deletes == results | {"tombstones", "workers", "place_workers"}
    enqueuers = {right.table for right in rights.rights(ENQUEUER) if right.privilege == "DELETE"}
    assert enqueuers == {"maps"}, "what it makes anew from vectors at any time"


def test_columns_are_taken_apart() -> None:
    assert [right for right in rights.rights(WORKER) if right.table == "encoders"] == [
        Right(WORKER, "encoders", "UPDATE", column)
        for column in ("weights_digest", "dim", "pooling", "license", "canary_limits", "origin")
    ]
    assert Right(WORKER, "scores", "DELETE", None) in rights.rights(WORKER)


@pytest.mark.parametrize(
    ("said", "statement", "lacks"),
    [
        ("permission denied for table jobs", "UPDATE reelvec.jobs SET x = 1", "UPDATE on jobs"),
        ("permission denied for table videos", "WITH made AS (INSERT INTO reelvec.videos (uri) ...", "INSERT on videos"),
        ("permission denied for table scores", "DELETE FROM reelvec.scores WHERE ...", "DELETE on scores"),
        ("permission denied for table video_embeddings", "COPY reelvec.video_embeddings (a) FROM STDIN", "INSERT on video_embeddings"),
        ("permission denied for table video_embeddings", "COPY reelvec.video_embeddings (a) TO STDOUT BINARY", "SELECT on video_embeddings"),
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
