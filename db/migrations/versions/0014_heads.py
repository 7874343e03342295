"""Trained heads: a table beside `taggers`, tags that say which vectors they are of, and views that
withhold a tag where its head is unsure.

Each lock is held for one statement and no row is looked at. Workers of older versions score label sets only:
they never meet a tagger without one, nor a score without a worker.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
compatible_from = "0001"

TABLES = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    "ALTER TABLE reelvec.taggers ALTER COLUMN label_set_id DROP NOT NULL",
    "ALTER TABLE reelvec.scores ADD COLUMN IF NOT EXISTS vectors_at timestamptz",
    "ALTER TABLE reelvec.scores ALTER COLUMN worker_id DROP NOT NULL",
    """
    CREATE TABLE IF NOT EXISTS reelvec.heads (
      tagger_id       smallint PRIMARY KEY REFERENCES reelvec.taggers ON DELETE CASCADE,
      head            text NOT NULL,
      version         int NOT NULL,
      kind            text NOT NULL,
      encoder_ids     smallint[] NOT NULL,
      weights_digests text[] NOT NULL,
      mean            real[] NOT NULL,
      scale           real[] NOT NULL,
      coefficients    real[] NOT NULL,
      intercept       real[] NOT NULL,
      temperature     real NOT NULL,
      unsure_below    real NOT NULL DEFAULT 0,
      videos          int NOT NULL,
      judgement       jsonb NOT NULL,
      digest          text NOT NULL,
      made_by         text NOT NULL,
      made_at         timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT heads_version UNIQUE (head, version),
      CONSTRAINT heads_digest UNIQUE (head, digest)
    )""",
)

TAGS = """
CREATE OR REPLACE VIEW reelvec.tags AS
SELECT s.video_id, t.tagger, r.rank, r.tag, r.probability,
  s.probability < coalesce(h.unsure_below, 0) AS unsure
FROM reelvec.scores s
JOIN reelvec.taggers t USING (tagger_id)
JOIN reelvec.encoders e USING (encoder_id)
LEFT JOIN reelvec.heads h USING (tagger_id)
CROSS JOIN LATERAL (
  SELECT row_number() OVER (ORDER BY u.p DESC, u.c) AS rank, u.c AS tag, u.p AS probability
  FROM unnest(s.probabilities, coalesce(s.tags, t.categories)) AS u (p, c)
) r
WHERE e.weights = 'pretrained';
"""

# As before, but a head, which has learnt the user's own categories, speaks before any label set: the latest first. Where it is
# unsure nobody else speaks for it, and no tag is given: what is loaded elsewhere without a look at `unsure` must not hold it.
BEST_TAGS = """
CREATE OR REPLACE VIEW reelvec.best_tags AS
SELECT v.video_id, CASE WHEN NOT best.unsure THEN best.tag END AS tag, best.probability, best.tagger, best.unsure
FROM reelvec.videos v
CROSS JOIN LATERAL (
  SELECT s.tag, s.probability, t.tagger, s.probability < coalesce(h.unsure_below, 0) AS unsure
  FROM reelvec.scores s JOIN reelvec.taggers t USING (tagger_id) JOIN reelvec.encoders e USING (encoder_id)
  LEFT JOIN reelvec.heads h USING (tagger_id) LEFT JOIN reelvec.label_sets l USING (label_set_id)
  WHERE s.video_id = v.video_id AND e.weights = 'pretrained'
  ORDER BY h.tagger_id IS NULL, coalesce(l.label_set = 'imagenet', false),
    CASE WHEN l.label_set IN ('en', 'ru', 'names') THEN t.tagger_id ELSE -t.tagger_id END
  LIMIT 1) best;
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in (*TABLES, TAGS, BEST_TAGS):
            op.execute(statement)
