"""Pictures of videos: one small strip of frames for each, in a table of its own.

Whoever reads `videos` reads no picture, and a worker of an older version writes none. Kept as it
is (EXTERNAL): Postgres would try to compress what is compressed.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
compatible_from = "0001"

STATEMENTS = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    "ALTER TABLE reelvec.jobs ADD COLUMN IF NOT EXISTS wants_strip boolean",
    """
    CREATE TABLE IF NOT EXISTS reelvec.strips (
      video_id bigint PRIMARY KEY REFERENCES reelvec.videos ON DELETE CASCADE,
      etag     text,
      strip    bytea NOT NULL,
      made_at  timestamptz NOT NULL DEFAULT now()
    )""",
    "ALTER TABLE reelvec.strips ALTER COLUMN strip SET STORAGE EXTERNAL",
)

COMMENTS = {
    "TABLE reelvec.strips": "A picture of each video that has vectors, for reelvec ui: three of its"
    " frames. Videos from before this table have none, nor those of enqueue --no-thumbnails.",
    "COLUMN reelvec.strips.etag": "The version of the video that the frames are of.",
    "COLUMN reelvec.strips.strip": "A WebP file of 336 x 112 pixels, about 6 KB.",
    "COLUMN reelvec.jobs.wants_strip": "Whether a picture is kept with the vectors; NULL: yes.",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for what, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.execute(f"COMMENT ON {what} IS '{quoted}'")
