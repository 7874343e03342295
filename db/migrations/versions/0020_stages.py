"""What the next worker of a job needs: its video, or frames that are sampled already.

Columns that older versions do not know, and an index made beside the running fleet. They feed by
`jobs_owed`, which goes with the next release.
"""

from __future__ import annotations

from alembic import op

from db.migrations.concurrently import make_index

revision = "0020"
down_revision = "0019"
compatible_from = "0001"

STATEMENTS = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    # a constant default is kept in the catalogue: no row is written
    """
    ALTER TABLE reelvec.jobs
      ADD COLUMN IF NOT EXISTS stage text DEFAULT 'video',
      ADD COLUMN IF NOT EXISTS keep_frames boolean,
      ADD COLUMN IF NOT EXISTS frames_lost smallint,
      ADD COLUMN IF NOT EXISTS bytes_written bigint,
      ADD COLUMN IF NOT EXISTS frames_bytes bigint,
      ADD COLUMN IF NOT EXISTS frames_seconds real""",
    """
    ALTER TABLE reelvec.workers
      ADD COLUMN IF NOT EXISTS stage text DEFAULT 'video',
      ADD COLUMN IF NOT EXISTS pack_slots integer""",
    # packs that go with their video, however many are kept; the table is new
    "CREATE INDEX IF NOT EXISTS packs_passing ON reelvec.packs (video_id) WHERE NOT kept",
)

#: By it jobs are fed, each stage by itself, and packs that wait are counted.
INDEX = "jobs_fed"
DEFINITION = (
    "ON reelvec.jobs (stage, coalesce(owes, encoders), place_id, video_id) WHERE state = 'pending'"
)


def upgrade() -> None:
    with op.get_context().autocommit_block():  # each lock is held for one statement
        for statement in STATEMENTS:
            op.execute(statement)
        make_index(INDEX, DEFINITION)
