"""What each model owes, which workers can make it, and by which queue a video was sent.

Everything on large tables is a nullable column and an index made beside the running fleet. `jobs.owes` says which encoders
are left of `jobs.encoders`; NULL, as in rows of older versions, stands for all of them. A claim looks at the rows
themselves and puts right what it finds wrong there.
"""

from __future__ import annotations

from alembic import op

from db.migrations.concurrently import make_index

revision = "0007"
down_revision = "0006"
compatible_from = "0001"

COLUMNS = (
    "ALTER TABLE reelvec.jobs ADD COLUMN IF NOT EXISTS owes smallint[], ADD COLUMN IF NOT EXISTS queue smallint",
    "ALTER TABLE reelvec.workers ADD COLUMN IF NOT EXISTS models text[],"
    " ADD COLUMN IF NOT EXISTS refused_encoders smallint[]",
    # what the counted groups want and owe; `sets_of` is the hash of those groups, as older versions store others alone
    "ALTER TABLE reelvec.census ADD COLUMN IF NOT EXISTS sets jsonb, ADD COLUMN IF NOT EXISTS sets_of text",
    # a handful of rows
    "ALTER TABLE reelvec.encoders ADD COLUMN IF NOT EXISTS model text GENERATED ALWAYS AS"
    " (backbone || CASE WHEN weights = 'pretrained' THEN '' ELSE '-' || weights END) STORED",
)

# The feeder deals out videos by what they owe: a million that nobody can make cost it one probe of this index.
INDEX = "jobs_owed"
DEFINITION = (
    "ON reelvec.jobs (coalesce(owes, encoders), place_id, video_id) WHERE state = 'pending'"
)

# A worker of an older version says nothing, and counts as one that can make everything.
PROGRESS = """
CREATE OR REPLACE VIEW reelvec.model_progress AS
WITH live AS (
  SELECT models, refused_encoders FROM reelvec.workers WHERE NOT draining AND beat_at > now() - interval '45 seconds'
), makeable AS (
  SELECT DISTINCT e.encoder_id FROM reelvec.encoders e JOIN live w
    ON (w.models IS NULL OR e.model = ANY(w.models)) AND e.encoder_id <> ALL(coalesce(w.refused_encoders, '{}'))
), wanted AS (
  SELECT w.encoder_id, g.videos, g.state, g.state <> 'done' AND w.encoder_id = ANY(g.owed) AS is_owed
  FROM (SELECT state, encoders, coalesce(owes, encoders) AS owed, count(*) AS videos FROM reelvec.jobs
        WHERE state <> 'cancelled' GROUP BY 1, 2, 3) g CROSS JOIN LATERAL unnest(g.encoders) AS w (encoder_id)
)
SELECT e.encoder, coalesce(sum(w.videos), 0)::bigint AS wanted,
  coalesce(sum(w.videos) FILTER (WHERE NOT w.is_owed), 0)::bigint AS embedded,
  coalesce(sum(w.videos) FILTER (WHERE w.is_owed AND w.state = 'failed'), 0)::bigint AS failed,
  coalesce(sum(w.videos) FILTER (WHERE w.is_owed AND w.state <> 'failed'), 0)::bigint AS waiting,
  coalesce(sum(w.videos) FILTER (WHERE w.is_owed AND w.state <> 'failed' AND EXISTS (SELECT FROM live)
    AND e.encoder_id NOT IN (SELECT encoder_id FROM makeable)), 0)::bigint AS waiting_for_weights
FROM reelvec.encoders e LEFT JOIN wanted w USING (encoder_id)
GROUP BY e.encoder;
"""

# Arrays have no foreign keys. An encoder that jobs want is not deleted: its videos would lose a model without a word.
# A tagger is only a reading of one: deleting it withdraws it.
TRIGGERS = """
CREATE OR REPLACE FUNCTION reelvec.refuse_wanted_encoder() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
DECLARE videos bigint;
BEGIN
  SELECT count(*) INTO videos FROM reelvec.jobs WHERE OLD.encoder_id = ANY(encoders);
  IF videos > 0 THEN
    RAISE EXCEPTION 'encoder % is still wanted by % videos', OLD.encoder, videos USING ERRCODE = 'foreign_key_violation',
      HINT = format('reelvec cancel --backbone %s withdraws it; then its row can be deleted', OLD.backbone);
  END IF;
  RETURN OLD;
END $refuse$;
CREATE OR REPLACE TRIGGER encoders_wanted BEFORE DELETE ON reelvec.encoders
FOR EACH ROW EXECUTE FUNCTION reelvec.refuse_wanted_encoder();

CREATE OR REPLACE FUNCTION reelvec.withdraw_tagger() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $withdraw$
BEGIN
  UPDATE reelvec.jobs SET taggers = array_remove(taggers, OLD.tagger_id) WHERE OLD.tagger_id = ANY(taggers);
  RETURN NULL;
END $withdraw$;
CREATE OR REPLACE TRIGGER taggers_withdrawn AFTER DELETE ON reelvec.taggers
FOR EACH ROW EXECUTE FUNCTION reelvec.withdraw_tagger();
"""

#: Whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`).
SHORT_LOCKS = "SET lock_timeout = '500ms'"


def upgrade() -> None:
    op.execute(SHORT_LOCKS)
    for statement in (*COLUMNS, PROGRESS, TRIGGERS):
        op.execute(statement)
    with op.get_context().autocommit_block():
        make_index(INDEX, DEFINITION)
        op.execute(SHORT_LOCKS)
