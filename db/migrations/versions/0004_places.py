"""Places with their breaker, paused backbones, what a worker says of itself, who did what, and counts that are shared.

Everything on large tables is a nullable column: nothing is rewritten, and the locks last milliseconds.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
compatible_from = "0001"

# A place is what stands before an object's name: `s3://bucket`, `https://host:8443`, `file://`.
PLACES = """
CREATE FUNCTION reelvec.place_of(uri text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT split_part(uri, '/', 1) || '//' || split_part(uri, '/', 3) $$;

CREATE TABLE reelvec.places (
  place_id       int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  place          text NOT NULL UNIQUE,
  closed_at      timestamptz,
  error_code     text,
  error          text,
  probe_video_id bigint,
  probe_at       timestamptz
);
CREATE INDEX places_closed ON reelvec.places (probe_at) WHERE closed_at IS NOT NULL;

CREATE TABLE reelvec.place_workers (
  place_id      int NOT NULL REFERENCES reelvec.places ON DELETE CASCADE,
  worker_id     uuid NOT NULL REFERENCES reelvec.workers ON DELETE CASCADE,
  failing_since timestamptz,
  error_code    text,
  error         text,
  at            timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (place_id, worker_id)
);

CREATE TABLE reelvec.paused_backbones (
  backbone text PRIMARY KEY,
  paused   boolean NOT NULL DEFAULT true,
  reason   text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now()
);
"""

RECORDS = """
CREATE TABLE reelvec.actions (
  action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at        timestamptz NOT NULL DEFAULT now(),
  action    text NOT NULL,
  who       text NOT NULL,
  what      text NOT NULL DEFAULT '',
  videos    bigint
);

CREATE TABLE reelvec.census (
  census_id boolean PRIMARY KEY DEFAULT true CHECK (census_id),
  taken_at  timestamptz NOT NULL DEFAULT now(),
  looked_at timestamptz,
  groups    jsonb NOT NULL
);
"""

# A worker's role may make nothing in the schema, and yet the first one that binds an encoder makes its view: as the owner,
# in this one shape. The type lies where a DBA has put the extension.
ENCODER_VIEW = """
CREATE FUNCTION reelvec.make_encoder_view(encoder_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $make$
DECLARE
  bound reelvec.encoders;
  view_name text := replace(encoder_name, '-', '_');
  halfvec_schema text;
BEGIN
  SELECT * INTO bound FROM reelvec.encoders WHERE encoder = encoder_name AND dim IS NOT NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'encoder % is not bound', encoder_name USING ERRCODE = 'no_data_found';
  END IF;
  SELECT nspname INTO STRICT halfvec_schema
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
  EXECUTE format(
    'CREATE VIEW reelvec.%I AS SELECT video_id, embedding::%I.halfvec(%s) AS embedding, dtype, created_at'
    ' FROM reelvec.embeddings WHERE encoder_id = %s', view_name, halfvec_schema, bound.dim, bound.encoder_id);
END $make$;
REVOKE ALL ON FUNCTION reelvec.make_encoder_view FROM PUBLIC;
"""

# jobs.place_id has no foreign key: its check would lock the row of a place that every producer and worker uses.
COLUMNS = (
    "ALTER TABLE reelvec.jobs ADD COLUMN place_id int",
    "ALTER TABLE reelvec.workers ADD COLUMN name text, ADD COLUMN claimed_at timestamptz,"
    " ADD COLUMN videos_done bigint, ADD COLUMN videos_failed bigint, ADD COLUMN videos_per_second real,"
    " ADD COLUMN last_error text, ADD COLUMN last_error_at timestamptz",
)


def upgrade() -> None:
    op.execute(PLACES)
    op.execute(RECORDS)
    op.execute(ENCODER_VIEW)
    for statement in COLUMNS:
        op.execute(statement)
