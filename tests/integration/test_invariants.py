"""Each invariant seen clean, seen broken, and put right by the statement it names."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import Engine

from db import encoders, session
from db.administration import invariants
from db.administration.invariants import INVARIANTS, Checked, Invariant
from db.errors import ErrorClass
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome, TaggerRows
from db.jobs.sampler_version import VERSION
from db.media import Media
from producer.sources.reading import VideoRow
from tests import ledgering
from workers.sampling import plan

BY_NAME = {invariant.name: invariant for invariant in INVARIANTS}

#: What breaks each rule, on the ledger of `good`: videos 1 and 2 are done, 3 failed, 4 waits.
BREAKS = {
    "done without vectors": "DELETE FROM video_embeddings WHERE video_id = 1",
    "done without scores": "DELETE FROM scores WHERE video_id = 1",
    "unbound vectors": "UPDATE encoders SET weights_digest = NULL",
    "vectors without dtype": "UPDATE video_embeddings SET dtype = ' ' WHERE video_id = 1",
    "vector dimensions": "UPDATE video_embeddings SET embedding = '[1,2]' WHERE video_id = 1",
    "window dimensions": "UPDATE window_embeddings SET embedding = '[1,2]' WHERE video_id = 1 AND "
    "window_index = 2",
    "vectors of length 0": "UPDATE video_embeddings SET embedding = '[0,0,0,0]' WHERE video_id = 1",
    "windows of length 0": "UPDATE window_embeddings SET embedding = '[0,0,0,0]' WHERE video_id = "
    "1 AND window_index = 2",
    "vectors without windows": "DELETE FROM window_embeddings WHERE video_id = 1",
    "windows without a vector": "DELETE FROM video_embeddings WHERE video_id = 1",
    "number of windows": "DELETE FROM window_embeddings WHERE video_id = 1 AND window_index = 1",
    "number of scores": "UPDATE scores SET probabilities = '{1}' WHERE video_id = 1",
    "probabilities": "UPDATE scores SET probabilities = '{NaN,0.5}' WHERE video_id = 1",
    "scores without a vector": "DELETE FROM video_embeddings WHERE video_id = 1",
    "tags of older vectors": "WITH t AS (INSERT INTO taggers (tagger, encoder_id, categories) VALUES "
    "('h@1', 1, '{a}') RETURNING tagger_id), h AS (INSERT INTO heads SELECT tagger_id, 'h', 1, "
    "'pls', '{1}', '{aaa}', '{0}', '{1}', '{{0}}', '{0}', 1, 0, 3, '{}', 'x', 'me' FROM t) INSERT "
    "INTO scores (tagger_id, video_id, probabilities, tag, probability, vectors_at) SELECT "
    "tagger_id, 1, '{1}', 'a', 1, now() - interval '1 day' FROM t",
    "unattended jobs": "UPDATE jobs SET state = 'running', worker_id = gen_random_uuid() WHERE "
    "video_id = 4",
    "owned but not running": "UPDATE jobs SET worker_id = gen_random_uuid() WHERE video_id = 1",
    "unknown encoders": "UPDATE jobs SET encoders = encoders || 99::smallint WHERE video_id = 1",
    "unknown taggers": "UPDATE jobs SET taggers = taggers || 99::smallint WHERE video_id = 1",
    "failures without a code": "UPDATE jobs SET error_code = NULL WHERE video_id = 3",
    "repeated ids": "UPDATE jobs SET encoders = encoders || encoders WHERE video_id = 1",
    "duplicate videos": "DROP INDEX videos_uri; INSERT INTO videos (uri) SELECT uri FROM videos "
    "WHERE video_id = 1",
    "left of deleted videos": "SET LOCAL session_replication_role = replica; DELETE FROM videos "
    "WHERE video_id = 1; DELETE FROM jobs WHERE video_id = 1; INSERT INTO strips (video_id, strip) "
    "VALUES (1, 'x'); INSERT INTO packs (video_id, policy, digest, size_bytes, recipe, written_at) "
    "VALUES (1, 'notebook', 'ab', 1, 'r', now())",
    "frames of deleted videos": "INSERT INTO tombstones (digest, buried_at) VALUES ('ab', now() - "
    "interval '11 minutes'), ('cd', now())",
    "frames never written": "INSERT INTO packs (video_id, policy, digest, size_bytes, recipe, "
    "recorded_at) VALUES (1, 'notebook', 'ab', 1, 'r', now() - interval '61 minutes'), (2, "
    "'notebook', 'cd', 1, 'r', now())",
    "invalid indexes": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
    "'videos_category'::regclass",
    "sampled by an older version": "UPDATE videos SET sampler_version = NULL WHERE video_id = 1",
    "videos without a job": "DELETE FROM jobs WHERE video_id = 4",
}


def run_sql(engine: Engine, statement: str) -> None:
    """As `reelvec db sql --write` would."""
    with session.transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL search_path = reelvec, public")
        connection.exec_driver_sql(statement.replace("%", "%%"))


@pytest.fixture
def good(engine: Engine) -> Engine:
    """A ledger on which every rule holds: two videos done, one failed, one that waits."""
    encoder_id = ledgering.declare(engine)
    with session.transaction(engine) as connection:
        known = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        encoders.bind(connection, known, weights_digest="aaa", dim=4, pooling="mean")
        tagger_id = encoders.declare_tagger(connection, encoder_id, "probe", ledgering.LABELS)
    rows = [VideoRow(f"file:///{number}.mp4") for number in range(4)]
    ledgering.record(engine, rows, Wanted((encoder_id,), (tagger_id,)))
    worker_id = ledgering.worker(engine)
    broken = Outcome(failure=Failure("sample", "truncated", ErrorClass.PERMANENT, "cut short"))
    for video_id in (1, 2, 3):
        claimed = ledgering.claim(engine, video_id, worker_id)
        assert claimed is not None
        media = Media(None, sampler_version=VERSION)
        done = Outcome(
            (ledgering.vectors(encoder_id),), (ledgering.scores(tagger_id),), media=media
        )
        assert ledgering.finish(engine, claimed, broken if video_id == 3 else done) in (
            "done",
            "failed",
        )
    return engine


def broken(engine: Engine) -> dict[str, Checked]:
    return {
        checked.invariant.name: checked
        for checked in invariants.check_all(engine, timeout_seconds=20)
        if checked.count
    }


def test_every_rule_holds_on_a_good_ledger(good: Engine) -> None:
    assert [checked.count for checked in invariants.check_all(good, timeout_seconds=20)] == [
        0
    ] * len(INVARIANTS)
    assert BREAKS.keys() == BY_NAME.keys(), "a rule nobody has seen broken"


def test_of_a_large_label_set_the_best_of_a_video_are_kept_by_name(engine: Engine) -> None:
    names = tuple(f"class {number}" for number in range(201))
    with session.transaction(engine) as connection:
        encoder_id = encoders.declare_encoder(connection, ledgering.encoder())
        labels = ledgering.LabelSet("many", names, names)
        tagger_id = encoders.declare_tagger(connection, encoder_id, "probe", labels)
    rows = [VideoRow("file:///0.mp4")]
    ledgering.record(engine, rows, Wanted((encoder_id,), (tagger_id,)))
    claimed = ledgering.claim(engine, 1, ledgering.worker(engine))
    assert claimed is not None
    # the best is the last; what one window says is outweighed by the others
    windows = np.tile(np.arange(201, dtype=np.float32), (3, 1)) ** 2
    windows[0, 7] = 50_000
    windows /= windows.sum(axis=1, keepdims=True)
    made = TaggerRows(tagger_id, names, windows)
    outcome = Outcome((ledgering.vectors(encoder_id),), (made,))
    assert ledgering.finish(engine, claimed, outcome) == "done"
    with session.transaction(engine) as connection:
        tag, tags, probabilities, of_windows = connection.exec_driver_sql(
            "SELECT tag, tags, probabilities, window_probabilities FROM reelvec.scores"
        ).one()
        ranked = connection.exec_driver_sql(
            "SELECT tag, probability FROM reelvec.tags ORDER BY rank"
        ).all()
    assert (tag, len(tags), of_windows) == ("class 200", 20, None)
    assert tags[:3] == ["class 200", "class 199", "class 198"]
    assert [tuple(row) for row in ranked] == list(zip(tags, probabilities, strict=True))
    mean = windows.mean(axis=0)
    np.testing.assert_allclose(probabilities, [mean[names.index(name)] for name in tags], 1e-6)
    assert not broken(engine).keys() & {"number of scores", "probabilities"}
    run_sql(engine, "UPDATE scores SET tags = tags[:19]")
    assert "number of scores" in broken(engine)


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_counted_named_and_put_right(good: Engine, name: str) -> None:
    run_sql(good, BREAKS[name])
    found = broken(good)
    assert name in found
    assert found[name].count == (2 if name == "unbound vectors" else 1)
    shown = {
        "unattended jobs": "video 4", "failures without a code": "video 3", "duplicate videos": "video 5",
        "invalid indexes": "index videos_category", "videos without a job": "video 4",
        "frames of deleted videos": "object ab",
    }  # fmt: skip
    assert str(found[name].example).startswith(shown.get(name, "video 1"))
    if not found[name].invariant.repair_sql:
        assert found[name].invariant.advice
        return
    for _ in range(4):  # what one repair deletes, another has computed again
        for checked in found.values():
            if checked.invariant.repair_sql:
                run_sql(good, checked.invariant.repair_sql)
        found = broken(good)
        if not any(checked.invariant.repair_sql for checked in found.values()):
            break
    assert set(found) <= {"videos without a job"}


def test_a_repair_has_the_vector_computed_again(good: Engine) -> None:
    run_sql(good, BREAKS["vector dimensions"])
    for name in ("vector dimensions", "done without vectors"):
        run_sql(good, BY_NAME[name].repair_sql)
    assert [ledgering.state_of(good, video_id) for video_id in (1, 2)] == ["pending", "done"]


def test_a_slow_rule_is_not_finished_and_the_next_ones_go_on(good: Engine) -> None:
    slow = Invariant("slow", "other", "", "SELECT pg_sleep(5)::text AS example")
    assert invariants.check(good, slow, timeout_seconds=0.05) == Checked(slow, None, None, None)
    assert invariants.check(good, INVARIANTS[0], timeout_seconds=20).count == 0


def test_nothing_can_be_changed(good: Engine) -> None:
    writing = Invariant(
        "writing", "other", "", "SELECT nextval('reelvec.videos_video_id_seq')::text AS example"
    )
    with pytest.raises(Exception, match="read-only transaction"):
        invariants.check(good, writing, timeout_seconds=20)


def test_of_a_large_table_a_part_is_looked_at_and_said(
    good: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "SAMPLED_PAGES", 0.5)
    checked = invariants.check(good, BY_NAME["vector dimensions"], timeout_seconds=20)
    assert checked.sampled_percent == 50
    assert checked.count == 0


def test_pgvector_is_found_wherever_it_lies(good: Engine) -> None:
    run_sql(
        good, 'CREATE SCHEMA "my extensions"; ALTER EXTENSION vector SET SCHEMA "my extensions"'
    )
    assert broken(good) == {}


def test_the_number_of_frames_is_the_samplers() -> None:
    assert plan.FRAMES == 96, "the rules about windows hold 96"
