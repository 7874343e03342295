"""Pictures of videos: one small strip of frames for each, in a table of its own.

Whoever reads `videos` reads no picture, and a worker of an older version writes none. Kept as it
is (EXTERNAL): Postgres would try to compress what is compressed.
"""

from __future__ import annotations

from alembic import op

from db.migrations.concurrently import make_index

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


#: What failed with one code, the last first: status, and the page, ask for examples.
INDEX = "jobs_failed"
DEFINITION = "ON reelvec.jobs (error_code, finished_at) WHERE state = 'failed'"


def upgrade() -> None:
    with op.get_context().autocommit_block():  # each lock is held for one statement
        for statement in STATEMENTS:
            op.execute(statement)
        make_index(INDEX, DEFINITION)
