"""A model for the first minute: the best tags of a label set too large to be kept whole, and no
random weights where tags are read.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
compatible_from = "0001"

# Both take a lock for a moment and look at no row.
SCORES = """
ALTER TABLE reelvec.scores ADD COLUMN tags text[];
ALTER TABLE reelvec.scores ALTER COLUMN window_probabilities DROP NOT NULL;
"""

TAGS = """
CREATE OR REPLACE VIEW reelvec.tags AS
SELECT s.video_id, t.tagger, r.rank, r.tag, r.probability
FROM reelvec.scores s
JOIN reelvec.taggers t USING (tagger_id)
JOIN reelvec.encoders e USING (encoder_id)
CROSS JOIN LATERAL (
  SELECT row_number() OVER (ORDER BY u.p DESC, u.c) AS rank, u.c AS tag, u.p AS probability
  FROM unnest(s.probabilities, coalesce(s.tags, t.categories)) AS u (p, c)
) r
WHERE e.weights = 'pretrained';
"""

# As before, but a model's own classes speak only where no category of a label set does.
BEST_TAGS = """
CREATE OR REPLACE VIEW reelvec.best_tags AS
SELECT v.video_id, best.tag, best.probability, best.tagger
FROM reelvec.videos v
CROSS JOIN LATERAL (
  SELECT s.tag, s.probability, t.tagger
  FROM reelvec.scores s JOIN reelvec.taggers t USING (tagger_id) JOIN reelvec.encoders e USING (encoder_id)
  JOIN reelvec.label_sets l USING (label_set_id)
  WHERE s.video_id = v.video_id AND e.weights = 'pretrained'
  ORDER BY l.label_set = 'imagenet', CASE WHEN l.label_set IN ('en', 'ru', 'names') THEN t.tagger_id ELSE -t.tagger_id END
  LIMIT 1) best;
"""

COMMENTS = {
    "COLUMN reelvec.scores.probabilities": "In the order of tags, where that is filled, else of taggers.categories; all of"
    " them add up to 1.",
    "COLUMN reelvec.scores.tags": "The 20 best, where the tagger has more than 200 categories; else NULL.",
    "COLUMN reelvec.scores.window_probabilities": "The same for each window, [window][category]; NULL where the tagger has more"
    " than 200 categories.",
    "VIEW reelvec.tags": "Every category of every tagger for every video, the 20 best of a tagger with more than 200: rank 1"
    " is its best. Taggers with random weights are left out. For one row a video see best_tags.",
    "VIEW reelvec.best_tags": "One row per video that has scores: the best tag, by your own labels (--labels) where the video"
    " has been scored with them, the latest first; otherwise by the first tagger that comes with reelvec. A model''s own"
    " classes (imagenet) speak only where there is nothing else, random weights never.",
}


def upgrade() -> None:
    for made in (SCORES, TAGS, BEST_TAGS):
        op.execute(made)
    for thing, words in COMMENTS.items():
        op.execute(f"COMMENT ON {thing} IS '{words}'")
