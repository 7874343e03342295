"""Where each vector of an encoder lies on a map of two dimensions: two new tables and a view.

A point refers to its vector, so it goes when a worker makes the vector anew, and with the video.
Workers of older versions know of none of it. Each lock is held for one statement.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
compatible_from = "0001"

STATEMENTS = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    """
    CREATE TABLE IF NOT EXISTS reelvec.maps (
      map_id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      encoder_id     smallint NOT NULL REFERENCES reelvec.encoders ON DELETE CASCADE,
      method         text NOT NULL,
      vectors        bigint NOT NULL,
      mean           real[],
      axes           real[],
      variance_share real,
      is_whole       boolean NOT NULL DEFAULT false,
      made_by        text NOT NULL,
      made_at        timestamptz NOT NULL DEFAULT now()
    )""",
    # one index for both who deletes a vector and who reads a map: an encoder has one map, or two while the next is made
    """
    CREATE TABLE IF NOT EXISTS reelvec.map_points (
      encoder_id smallint NOT NULL,
      video_id   bigint NOT NULL,
      map_id     int NOT NULL REFERENCES reelvec.maps ON DELETE CASCADE,
      x          real NOT NULL,
      y          real NOT NULL,
      PRIMARY KEY (encoder_id, video_id, map_id),
      FOREIGN KEY (encoder_id, video_id) REFERENCES reelvec.video_embeddings ON DELETE CASCADE
    )""",
    """
    CREATE OR REPLACE VIEW reelvec.coordinates AS
    SELECT p.video_id, e.encoder, p.x, p.y
    FROM reelvec.maps m JOIN reelvec.encoders e USING (encoder_id)
    JOIN reelvec.map_points p ON p.encoder_id = m.encoder_id AND p.map_id = m.map_id
    WHERE m.is_whole""",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in STATEMENTS:
            op.execute(statement)
