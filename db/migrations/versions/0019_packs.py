"""What the frame store holds, and what must be deleted from it.

A row of `packs` that goes, with its video or alone, or that names another object from then on,
leaves a tombstone. That refers to nothing: it must outlive the video. There may be several of one
object: two takedowns never wait for each other.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
compatible_from = "0001"

STATEMENTS = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    """
    CREATE TABLE IF NOT EXISTS reelvec.packs (
      video_id    bigint NOT NULL REFERENCES reelvec.videos ON DELETE CASCADE,
      policy      text NOT NULL,
      digest      text NOT NULL,
      size_bytes  bigint NOT NULL,
      recipe      text NOT NULL,
      etag        text,
      kept        boolean NOT NULL DEFAULT false,
      recorded_at timestamptz NOT NULL DEFAULT now(),
      written_at  timestamptz,
      PRIMARY KEY (video_id, policy)
    )""",
    "CREATE INDEX IF NOT EXISTS packs_digest ON reelvec.packs (digest)",
    """
    CREATE TABLE IF NOT EXISTS reelvec.tombstones (
      tombstone_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      digest       text NOT NULL,
      is_written   boolean NOT NULL DEFAULT true,
      buried_at    timestamptz NOT NULL DEFAULT now(),
      due_at       timestamptz NOT NULL DEFAULT now()
    )""",
    "CREATE INDEX IF NOT EXISTS tombstones_due ON reelvec.tombstones (due_at)",
    # whoever may delete a video need not know of tombstones
    """
    CREATE OR REPLACE FUNCTION reelvec.bury_pack() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $bury$
    BEGIN
      INSERT INTO reelvec.tombstones (digest, is_written) VALUES (OLD.digest, OLD.written_at IS NOT NULL);
      RETURN NULL;
    END $bury$""",
    "DROP TRIGGER IF EXISTS packs_bury ON reelvec.packs",
    """
    CREATE TRIGGER packs_bury AFTER DELETE ON reelvec.packs
    FOR EACH ROW EXECUTE FUNCTION reelvec.bury_pack()""",
    "DROP TRIGGER IF EXISTS packs_bury_replaced ON reelvec.packs",
    """
    CREATE TRIGGER packs_bury_replaced AFTER UPDATE ON reelvec.packs
    FOR EACH ROW WHEN (OLD.digest <> NEW.digest) EXECUTE FUNCTION reelvec.bury_pack()""",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():  # each lock is held for one statement
        for statement in STATEMENTS:
            op.execute(statement)
