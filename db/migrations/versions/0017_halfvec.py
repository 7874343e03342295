"""Pooled vectors at half of their size: they move into `video_embeddings`, as `halfvec`, beside the
running fleet.

A column cannot be given another type without a rewrite under lock, and workers of older versions
write float32 by binary COPY. So a new table is filled in small batches while a trigger keeps it in
step with the old one; then, in one short transaction, a view takes the old table's name, and the
table goes. The view is for older versions alone and for one release: it gives and takes float32.

Begun twice, it goes on.
"""

from __future__ import annotations

import re
import time
from typing import Any

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.errors import RefusedConfigurationError

revision = "0017"
down_revision = "0016"
compatible_from = "0001"

#: A worker that deletes a row of the batch waits for the batch: a tenth of a second.
BATCH_VIDEOS = 1_000
#: Postgres' words for a lock that did not come and for a deadlock.
BUSY = ("55P03", "40P01")
TRIES, PAUSE_SECONDS = 120, 0.5

# Rows of up to 8 KB stay whole: what has to be fetched from beside the table makes a scan several times as long.
# The names of pgvector's types are found by the search path of migrations (`db/migrations/env.py`).
TABLE = """
CREATE TABLE IF NOT EXISTS reelvec.video_embeddings (
  encoder_id smallint NOT NULL REFERENCES reelvec.encoders,
  video_id   bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
  embedding  halfvec NOT NULL,
  dtype      text NOT NULL,
  worker_id  uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (encoder_id, video_id)
) WITH (toast_tuple_target = 8160);
CREATE INDEX IF NOT EXISTS video_embeddings_video ON reelvec.video_embeddings (video_id);
"""

# As their owner: roles get their rights on the new table with the view.
IN_STEP = """
CREATE OR REPLACE FUNCTION reelvec.keep_in_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $step$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    DELETE FROM reelvec.video_embeddings WHERE encoder_id = OLD.encoder_id AND video_id = OLD.video_id;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO reelvec.video_embeddings
    VALUES (NEW.encoder_id, NEW.video_id, NEW.embedding, NEW.dtype, NEW.worker_id, NEW.created_at);
  END IF;
  RETURN NULL;
END $step$;
CREATE OR REPLACE TRIGGER embeddings_in_step AFTER INSERT OR UPDATE OR DELETE ON reelvec.embeddings
FOR EACH ROW EXECUTE FUNCTION reelvec.keep_in_step();
"""

_NEXT = text("""
SELECT max(video_id) FROM (
  SELECT video_id FROM reelvec.videos WHERE video_id > :after ORDER BY video_id LIMIT :batch) batch
""")

# Videos are locked before their vectors, as by whoever deletes a video; what somebody deletes is waited for and passed over.
_FILL = text("""
WITH chosen AS MATERIALIZED (
  SELECT video_id FROM reelvec.videos WHERE video_id > :after AND video_id <= :upto ORDER BY video_id FOR KEY SHARE
), old AS MATERIALIZED (
  SELECT m.* FROM chosen JOIN reelvec.embeddings m USING (video_id)
  WHERE NOT EXISTS (
    SELECT FROM reelvec.video_embeddings n WHERE n.encoder_id = m.encoder_id AND n.video_id = m.video_id)
  FOR SHARE OF m
)
INSERT INTO reelvec.video_embeddings
SELECT encoder_id, video_id, embedding::halfvec, dtype, worker_id, created_at FROM old
ON CONFLICT DO NOTHING
""")

_LEFT = text("""
SELECT count(*) FROM reelvec.embeddings m WHERE NOT EXISTS (
  SELECT FROM reelvec.video_embeddings n WHERE n.encoder_id = m.encoder_id AND n.video_id = m.video_id)
""")

# Indexes that somebody has made, for the nearest vectors for example.
_INDEXES = text("""
SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(:table) AND NOT i.indisprimary AND i.indisvalid AND c.relname <> 'embeddings_video'
ORDER BY 1
""")
# Tables whose rows go with a vector.
_REFERENCES = text("""
SELECT r.conname, r.conrelid::regclass::text, pg_get_constraintdef(r.oid), n.convalidated
FROM pg_constraint r LEFT JOIN pg_constraint n ON n.conrelid = r.conrelid AND n.conname = left(r.conname, 50) || '_halfvec'
WHERE r.contype = 'f' AND r.confrelid = 'reelvec.embeddings'::regclass
""")
_IS_INVALID = text("""
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid)
""")

# Views keep the table they were made of, so they are made again; a user's own that shows a whole vector goes on with float32.
TAKE_THE_NAME = """
DO $cutover$
DECLARE
  thing record;
  was CONSTANT oid := 'reelvec.embeddings'::regclass;
  path CONSTANT text := current_setting('search_path');
  readers text[];
  bodies text[];
BEGIN
  LOCK TABLE reelvec.embeddings IN ACCESS EXCLUSIVE MODE;
  PERFORM set_config('search_path', 'pg_catalog', true);  -- so that every name is told with its schema
  SELECT array_agg(c.oid::regclass::text), array_agg(pg_get_viewdef(c.oid)) INTO readers, bodies
  FROM pg_class c WHERE c.relkind = 'v' AND EXISTS (
    SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = c.oid AND d.refobjid = was);
  PERFORM set_config('search_path', path, true);
  ALTER TABLE reelvec.embeddings RENAME TO embeddings_before;
  CREATE VIEW reelvec.embeddings AS
    SELECT encoder_id, video_id, embedding::vector AS embedding, dtype, worker_id, created_at FROM reelvec.video_embeddings;
  CREATE OR REPLACE FUNCTION reelvec.take_float32() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $take$
  BEGIN
    INSERT INTO reelvec.video_embeddings
    VALUES (NEW.encoder_id, NEW.video_id, NEW.embedding, NEW.dtype, NEW.worker_id, coalesce(NEW.created_at, now()));
    RETURN NEW;
  END $take$;
  CREATE TRIGGER embeddings_written INSTEAD OF INSERT ON reelvec.embeddings
  FOR EACH ROW EXECUTE FUNCTION reelvec.take_float32();
  FOR thing IN SELECT * FROM unnest(readers, bodies) AS reader (name, body) LOOP
    BEGIN
      EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', thing.name,
        regexp_replace(thing.body, '\\mreelvec\\.embeddings\\M', 'reelvec.video_embeddings', 'g'));
    EXCEPTION WHEN invalid_table_definition THEN
      EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', thing.name, thing.body);
    END;
  END LOOP;
  FOR thing IN
    SELECT pg_get_functiondef(oid) AS body FROM pg_proc
    WHERE pronamespace = 'reelvec'::regnamespace AND prosrc ~ '\\membeddings\\M'
  LOOP
    EXECUTE regexp_replace(thing.body, '\\membeddings\\M', 'video_embeddings', 'g');
  END LOOP;
  FOR thing IN
    SELECT conrelid::regclass::text AS of_table, conname AS name FROM pg_constraint WHERE contype = 'f' AND confrelid = was
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', thing.of_table, thing.name);
    EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', thing.of_table, left(thing.name, 50) || '_halfvec', thing.name);
  END LOOP;
  FOR thing IN
    SELECT to_name.name, a.privilege_type AS privilege, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
    FROM pg_class c, aclexplode(c.relacl) a, unnest(ARRAY['embeddings', 'video_embeddings']) AS to_name (name)
    WHERE c.oid = was AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('GRANT %s ON reelvec.%I TO %s', thing.privilege, thing.name, thing.role);
  END LOOP;
END $cutover$
"""


def upgrade() -> None:
    op.execute("SET lock_timeout = '500ms'")
    # nobody waits for a lock while a disk is slow; what a crash forgets is begun again
    op.execute("SET synchronous_commit = off")
    with op.get_context().autocommit_block():
        if _kind("reelvec.embeddings") == "r":
            for statement in (TABLE, IN_STEP):
                _patiently(statement)
            _fill()
            _index_as_before()
            _refer_as_before()
            _patiently(TAKE_THE_NAME)
        if _kind("reelvec.embeddings_before"):
            _give_back()
        op.execute("DROP FUNCTION IF EXISTS reelvec.keep_in_step()")
        op.execute("RESET synchronous_commit")


def _kind(name: str) -> str | None:
    """r: a table, v: a view, None: there is none."""
    kind = text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)")
    return op.get_bind().execute(kind, {"name": name}).scalar()


def _fill() -> None:
    connection, after = op.get_bind(), 0
    while (
        upto := connection.execute(_NEXT, {"after": after, "batch": BATCH_VIDEOS}).scalar()
    ) is not None:
        _patiently(_FILL, {"after": after, "upto": upto})
        after = upto
    if left := connection.execute(_LEFT).scalar_one():
        raise RefusedConfigurationError(
            f"{left} vectors did not get into reelvec.video_embeddings: run reelvec db upgrade again"
        )
    op.execute("ANALYZE reelvec.video_embeddings")


def _index_as_before() -> None:
    """The same indexes on the new table, made beside everybody's work."""
    connection = op.get_bind()
    # it waits for transactions that are older than itself, and nobody waits for it
    connection.execute(text("SET lock_timeout = 0"))
    for name, definition in connection.execute(_INDEXES, {"table": "reelvec.embeddings"}).all():
        if connection.execute(_IS_INVALID, {"name": f'reelvec."{_new(name)}"'}).scalar():
            op.execute(f'DROP INDEX CONCURRENTLY reelvec."{_new(name)}"')
        made = re.sub(
            r" INDEX .*? ON reelvec\.embeddings ",
            f' INDEX CONCURRENTLY IF NOT EXISTS "{_new(name)}" ON reelvec.video_embeddings ',
            definition,
            count=1,
        )
        connection.exec_driver_sql(made.replace("%", "%%"))
    op.execute("SET lock_timeout = '500ms'")


def _refer_as_before() -> None:
    """The same references to the new table; those to the old one go when the name is taken."""
    for name, table, definition, is_valid in op.get_bind().execute(_REFERENCES).all():
        made = re.sub(
            r"REFERENCES \S*?embeddings\(", "REFERENCES reelvec.video_embeddings(", definition
        )
        if is_valid is None:
            _patiently(f'ALTER TABLE {table} ADD CONSTRAINT "{_new(name)}" {made} NOT VALID')
        if not is_valid:
            _patiently(f'ALTER TABLE {table} VALIDATE CONSTRAINT "{_new(name)}"')


def _give_back() -> None:
    """The old table goes without anybody waiting for its files to be removed; its indexes' names
    are those of the new ones again.
    """
    connection = op.get_bind()
    names = [
        name for name, _ in connection.execute(_INDEXES, {"table": "reelvec.embeddings_before"})
    ]
    for constraint in ("embeddings_video_id_fkey", "embeddings_encoder_id_fkey"):
        _patiently(f"ALTER TABLE reelvec.embeddings_before DROP CONSTRAINT IF EXISTS {constraint}")
    for name in names:
        _patiently(
            f'DROP INDEX reelvec."{name}"; ALTER INDEX reelvec."{_new(name)}" RENAME TO "{name}"'
        )
    _patiently("DROP TABLE reelvec.embeddings_before")


def _new(name: str) -> str:
    return f"{name[:50]}_halfvec"


def _patiently(statement: Any, facts: dict[str, int] | None = None) -> None:
    """A statement in a transaction of its own, tried again where somebody was in its way."""
    for attempt in range(1, TRIES + 1):
        try:
            op.get_bind().execute(
                text(statement) if isinstance(statement, str) else statement, facts
            )
            return
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in BUSY or attempt == TRIES:
                raise
            time.sleep(PAUSE_SECONDS)
