"""Trained heads: a table beside `taggers`, tags that say which vectors they are of, and views that
withhold a tag where its head is unsure.

Locks are held for a moment and no row is looked at. Workers of older versions score label sets only:
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

COMMENTS = {
    "TABLE reelvec.taggers": "What gives scores: an encoder with a label set, or a trained head.",
    "COLUMN reelvec.taggers.encoder_id": "Whose vectors it reads; of a head that reads several, the first of"
    " heads.encoder_ids, or the first of them with random weights.",
    "COLUMN reelvec.taggers.label_set_id": "NULL: it is a head, with a row in heads.",
    "TABLE reelvec.heads": "Heads that reelvec evaluate --save has trained on the categories of videos: numbers that make"
    " probabilities of vectors. reelvec tag --head gives their tags to videos.",
    "COLUMN reelvec.heads.tagger_id": "The tagger that it is: its name there is head@version.",
    "COLUMN reelvec.heads.head": "The name it was saved under.",
    "COLUMN reelvec.heads.version": "1, 2, ...: what was learnt anew under the same name is another version.",
    "COLUMN reelvec.heads.kind": "How it was learnt: logistic, centroid or pls.",
    "COLUMN reelvec.heads.encoder_ids": "The encoders whose vectors it reads, each brought to length 1, side by side.",
    "COLUMN reelvec.heads.weights_digests": "Those encoders.weights_digest at that time: it reads no other vectors.",
    "COLUMN reelvec.heads.mean": "What is taken off each number of a vector first.",
    "COLUMN reelvec.heads.scale": "What each number is divided by then.",
    "COLUMN reelvec.heads.coefficients": "By [category][number of the vector], in the order of taggers.categories.",
    "COLUMN reelvec.heads.intercept": "By [category]: added to coefficients times vector, which gives logits.",
    "COLUMN reelvec.heads.temperature": "What logits are divided by, so that the softmax of them is right as often as it says.",
    "COLUMN reelvec.heads.unsure_below": "A video whose best probability is below this gets no tag; 0: each gets one. May be"
    " changed at any time, by reelvec tag --head NAME --unsure-below P.",
    "COLUMN reelvec.heads.videos": "How many it has learnt from.",
    "COLUMN reelvec.heads.judgement": "What reelvec evaluate found when it was saved: of videos that its like had not seen.",
    "COLUMN reelvec.heads.digest": "SHA-256 of all that decides what it says.",
    "COLUMN reelvec.heads.made_by": "Who saved it: user@host.",
    "COLUMN reelvec.heads.made_at": "When it was saved.",
    "COLUMN reelvec.scores.worker_id": "Who made it; NULL: a command, such as reelvec tag.",
    "COLUMN reelvec.scores.window_probabilities": "The same for each window, [window][category]; NULL where the tagger has more"
    " than 200 categories, or is a head.",
    "COLUMN reelvec.scores.vectors_at": "Of a head: when the newest of the vectors was made that it read. Where that is not"
    " the newest any more, reelvec tag makes the tag anew. NULL: of a label set.",
    "VIEW reelvec.tags": "Every category of every tagger for every video, the 20 best of a tagger with more than 200: rank 1"
    " is its best. Taggers with random weights are left out. For one row a video see best_tags.",
    "COLUMN reelvec.tags.unsure": "The tagger is a head whose best probability for this video is below its unsure_below.",
    "VIEW reelvec.best_tags": "One row per video that has scores: the best tag, by a trained head where one has tagged the"
    " video, the latest first; else by your own labels (--labels), the latest first; else by the first tagger that comes with"
    " reelvec. A model's own classes (imagenet) speak only where there is nothing else, random weights never.",
    "COLUMN reelvec.best_tags.tag": "NULL where the head is unsure; what it would have said is rank 1 in tags.",
    "COLUMN reelvec.best_tags.probability": "Of the best category, also where the head is unsure.",
    "COLUMN reelvec.best_tags.unsure": "The head that speaks for the video gave its best category less than its unsure_below.",
}  # fmt: skip


def upgrade() -> None:
    for statement in (*TABLES, TAGS, BEST_TAGS):
        op.execute(statement)
    for thing, words in COMMENTS.items():
        quoted = words.replace("'", "''")
        op.execute(f"COMMENT ON {thing} IS '{quoted}'")
