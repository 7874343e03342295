"""Videos, encoders, the ledger, vectors, scores, and the views users query."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
compatible_from = "0001"

TABLES = """
CREATE TABLE reelvec.schema_revisions (
  revision        text PRIMARY KEY,
  compatible_from text NOT NULL
);

CREATE TABLE reelvec.videos (
  video_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  uri              text NOT NULL,
  external_id      text UNIQUE,
  category         text,
  title            text,
  group_key        text,
  attributes       jsonb NOT NULL DEFAULT '{}',
  etag             text,
  size_bytes       bigint,
  codec            text,
  width_px         int,
  height_px        int,
  fps              real,
  duration_seconds real,
  added_at         timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX videos_uri ON reelvec.videos (md5(uri));
CREATE INDEX videos_category ON reelvec.videos (category);

CREATE TABLE reelvec.encoders (
  encoder_id        smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  encoder           text NOT NULL UNIQUE,
  backbone          text NOT NULL,
  checkpoint        text NOT NULL,
  ref               text NOT NULL,
  weights           text NOT NULL,
  license           text NOT NULL,
  frames_per_window smallint NOT NULL,
  sampling          text NOT NULL,
  preprocessing     text NOT NULL,
  weights_digest    text,
  dim               int,
  pooling           text,
  CONSTRAINT encoders_identity UNIQUE (backbone, checkpoint, ref, weights, sampling, preprocessing)
);

CREATE TABLE reelvec.label_sets (
  label_set_id      smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label_set         text NOT NULL UNIQUE,
  digest            text NOT NULL UNIQUE,
  prompts           text[] NOT NULL,
  prompt_categories text[] NOT NULL
);

CREATE TABLE reelvec.taggers (
  tagger_id    smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tagger       text NOT NULL UNIQUE,
  encoder_id   smallint NOT NULL REFERENCES reelvec.encoders,
  label_set_id smallint NOT NULL REFERENCES reelvec.label_sets,
  categories   text[] NOT NULL,
  CONSTRAINT taggers_identity UNIQUE (encoder_id, label_set_id)
);

CREATE TABLE reelvec.workers (
  worker_id     uuid PRIMARY KEY,
  host          text NOT NULL,
  pid           int NOT NULL,
  device        text NOT NULL,
  version       text NOT NULL,
  in_flight     int NOT NULL,
  draining      boolean NOT NULL DEFAULT false,
  started_at    timestamptz NOT NULL DEFAULT now(),
  beating_since timestamptz NOT NULL DEFAULT now(),
  beat_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE reelvec.jobs (
  video_id       bigint PRIMARY KEY REFERENCES reelvec.videos ON DELETE CASCADE,
  encoders       smallint[] NOT NULL,
  taggers        smallint[] NOT NULL DEFAULT '{}',
  state          text NOT NULL DEFAULT 'pending',
  force          boolean NOT NULL DEFAULT false,
  token          bigint NOT NULL DEFAULT 0,
  worker_id      uuid,
  attempts       smallint NOT NULL DEFAULT 0,
  strikes        smallint NOT NULL DEFAULT 0,
  lost_count     smallint NOT NULL DEFAULT 0,
  not_before     timestamptz,
  deadline_at    timestamptz,
  error_code     text,
  error          text,
  enqueued_at    timestamptz NOT NULL DEFAULT now(),
  queued_at      timestamptz,
  started_at     timestamptz,
  finished_at    timestamptz,
  bytes_read     bigint,
  fetch_seconds  real,
  decode_seconds real,
  wait_seconds   real,
  device_seconds real,
  CONSTRAINT jobs_state CHECK (state IN ('pending', 'queued', 'running', 'done', 'failed', 'cancelled'))
) WITH (fillfactor = 75);
CREATE INDEX jobs_pending ON reelvec.jobs (video_id) WHERE state = 'pending';
CREATE INDEX jobs_queued ON reelvec.jobs (queued_at) WHERE state = 'queued';
CREATE INDEX jobs_running ON reelvec.jobs (worker_id) WHERE state = 'running';
CREATE INDEX jobs_finished ON reelvec.jobs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE reelvec.attempts (
  video_id   bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
  attempt    smallint NOT NULL,
  stage      text NOT NULL,
  error_code text NOT NULL,
  error      text NOT NULL,
  encoder    text,
  worker_id  uuid NOT NULL,
  at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attempts_video ON reelvec.attempts (video_id);

CREATE TABLE reelvec.control (
  name   text PRIMARY KEY,
  paused boolean NOT NULL DEFAULT false,
  reason text,
  at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE reelvec.embeddings (
  encoder_id smallint NOT NULL REFERENCES reelvec.encoders,
  video_id   bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
  embedding  vector NOT NULL,
  dtype      text NOT NULL,
  worker_id  uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (encoder_id, video_id)
);
CREATE INDEX embeddings_video ON reelvec.embeddings (video_id);

CREATE TABLE reelvec.window_embeddings (
  encoder_id    smallint NOT NULL REFERENCES reelvec.encoders,
  video_id      bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
  window_index  smallint NOT NULL,
  start_seconds real NOT NULL,
  end_seconds   real NOT NULL,
  embedding     halfvec NOT NULL,
  PRIMARY KEY (video_id, encoder_id, window_index)
);

CREATE TABLE reelvec.scores (
  tagger_id            smallint NOT NULL REFERENCES reelvec.taggers,
  video_id             bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
  probabilities        real[] NOT NULL,
  window_probabilities real[] NOT NULL,
  tag                  text NOT NULL,
  probability          real NOT NULL,
  worker_id            uuid NOT NULL,
  created_at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tagger_id, video_id)
);
CREATE INDEX scores_tag ON reelvec.scores (tagger_id, tag, probability DESC);
CREATE INDEX scores_video ON reelvec.scores (video_id);
"""

VIEWS = """
CREATE VIEW reelvec.tags AS
SELECT s.video_id, t.tagger, r.rank, r.tag, r.probability
FROM reelvec.scores s
JOIN reelvec.taggers t USING (tagger_id)
CROSS JOIN LATERAL (
  SELECT row_number() OVER (ORDER BY u.p DESC, u.c) AS rank, u.c AS tag, u.p AS probability
  FROM unnest(s.probabilities, t.categories) AS u (p, c)
) r;

CREATE VIEW reelvec.progress AS
SELECT CASE WHEN grouping(v.category) = 1 THEN '(all)' ELSE coalesce(v.category, '(none)') END AS category,
       count(*) AS videos,
       count(*) FILTER (WHERE j.state = 'done') AS done,
       count(*) FILTER (WHERE j.state = 'failed') AS failed,
       count(*) FILTER (WHERE j.state = 'running') AS running,
       count(*) FILTER (WHERE j.state IN ('pending', 'queued')) AS waiting,
       count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE j.finished_at > now() - interval '10 minutes') / 600.0 AS videos_per_second
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
GROUP BY GROUPING SETS ((v.category), ());

CREATE VIEW reelvec.failures AS
SELECT j.video_id, v.uri, v.external_id, v.category, j.error_code, j.error, j.attempts, j.finished_at
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
WHERE j.state = 'failed';

CREATE VIEW reelvec.coverage AS
SELECT e.encoder, v.category, count(*) AS videos, count(m.video_id) AS embedded
FROM reelvec.videos v
CROSS JOIN reelvec.encoders e
LEFT JOIN reelvec.embeddings m USING (video_id, encoder_id)
GROUP BY 1, 2;
"""

# The expression is the one of the index that `embedding::halfvec(dim)` gets, so that the index is used.
NEAREST = """
CREATE FUNCTION reelvec.nearest(video bigint, encoder_name text, k int DEFAULT 10)
RETURNS TABLE (video_id bigint, distance double precision) LANGUAGE plpgsql STABLE AS $nearest$
DECLARE e reelvec.encoders;
BEGIN
  SELECT * INTO STRICT e FROM reelvec.encoders WHERE encoder = encoder_name;
  RETURN QUERY EXECUTE format($query$
    WITH query AS MATERIALIZED (
      SELECT embedding::halfvec(%1$s) AS v FROM reelvec.embeddings WHERE encoder_id = %2$s AND video_id = $1)
    SELECT m.video_id, (m.embedding::halfvec(%1$s) <=> (SELECT v FROM query))::double precision
    FROM reelvec.embeddings m
    WHERE m.encoder_id = %2$s AND m.video_id <> $1 AND EXISTS (SELECT FROM query)
    ORDER BY m.embedding::halfvec(%1$s) <=> (SELECT v FROM query) LIMIT $2$query$, e.dim, e.encoder_id)
  USING video, k;
END $nearest$;
"""

#: Types of the extension must resolve while views and tables are made, wherever a DBA has put it.
EXTENSION = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
    CREATE EXTENSION vector WITH SCHEMA public;
  END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(EXTENSION)
    op.execute(TABLES)
    op.execute(VIEWS)
    op.execute(NEAREST)
