"""What new labels need of videos that were embedded before, and videos that are nearly the same.

Nothing here reads or rewrites a table, and each lock is held for one statement. Workers of older
versions do not know that a context is to be kept, and keep none; one that was kept goes with the
vector that they make anew.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
compatible_from = "0001"

KEPT = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    "ALTER TABLE reelvec.jobs ADD COLUMN IF NOT EXISTS keep_context boolean NOT NULL DEFAULT false",
    """
    CREATE TABLE IF NOT EXISTS reelvec.contexts (
      encoder_id smallint NOT NULL,
      video_id   bigint NOT NULL,
      vectors    bytea NOT NULL,
      context    bytea NOT NULL,
      PRIMARY KEY (encoder_id, video_id),
      FOREIGN KEY (encoder_id, video_id) REFERENCES reelvec.embeddings ON DELETE CASCADE
    )""",
    # numbers like these do not become smaller
    "ALTER TABLE reelvec.contexts ALTER COLUMN context SET STORAGE EXTERNAL",
)

# Where all of the nearest are near enough there may be more of them, so more are asked for.
NEAR_DUPLICATES = """
CREATE OR REPLACE FUNCTION reelvec.near_duplicates(
  encoder_name text, above double precision DEFAULT 0.95, videos bigint[] DEFAULT NULL)
RETURNS TABLE (video_id bigint, other_id bigint, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $near$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  asked record;
  k int;
  ids bigint[];
  distances double precision[];
BEGIN
  FOR asked IN
    SELECT m.video_id AS video, m.embedding::real[] AS vector FROM reelvec.embeddings m
    WHERE m.encoder_id = chosen.encoder_id AND (videos IS NULL OR m.video_id = ANY(videos))
  LOOP
    k := 8;
    LOOP
      SELECT array_agg(n.video_id), array_agg(n.distance) INTO ids, distances
      FROM reelvec.nearest_to(asked.vector, encoder_name, k, asked.video) n WHERE n.distance <= 1 - above;
      EXIT WHEN coalesce(cardinality(ids), 0) < k;
      k := 8 * k;
    END LOOP;
    RETURN QUERY SELECT least(asked.video, n.id), greatest(asked.video, n.id), n.far
    FROM unnest(ids, distances) AS n (id, far)
    WHERE n.id > asked.video OR n.id <> ALL(videos);
  END LOOP;
END $near$;
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in (*KEPT, NEAR_DUPLICATES):
            op.execute(statement)
