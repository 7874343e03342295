"""Fill `jobs.place_id` in small batches and make the indexes beside the running fleet: begun twice, it goes on.

Rows that older producers add meanwhile are filled in by the feeder (`db.jobs.places.adopt`).
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from db.migrations.concurrently import make_index

revision = "0005"
down_revision = "0004"
compatible_from = "0001"

BATCH_VIDEOS = 5_000

INDEXES = {
    "jobs_places": "ON reelvec.jobs (place_id, video_id) WHERE state = 'pending'",
    "attempts_at": "ON reelvec.attempts (at)",
}

_NEW_PLACES = text("""
INSERT INTO reelvec.places (place)
SELECT DISTINCT reelvec.place_of(uri) AS place FROM reelvec.videos WHERE video_id > :after AND video_id <= :upto
EXCEPT SELECT place FROM reelvec.places ORDER BY place
ON CONFLICT DO NOTHING
""")

_FILL = text("""
UPDATE reelvec.jobs j SET place_id = p.place_id
FROM reelvec.videos v JOIN reelvec.places p ON p.place = reelvec.place_of(v.uri)
WHERE v.video_id = j.video_id AND j.place_id IS NULL AND j.video_id > :after AND j.video_id <= :upto
""")

_NEXT = text("""
SELECT max(video_id) FROM (
  SELECT video_id FROM reelvec.videos WHERE video_id > :after ORDER BY video_id LIMIT :batch) batch
""")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            make_index(name, definition)
        _fill()


def _fill() -> None:
    connection = op.get_bind()
    after = 0
    while (
        upto := connection.execute(_NEXT, {"after": after, "batch": BATCH_VIDEOS}).scalar()
    ) is not None:
        batch = {"after": after, "upto": upto}
        connection.execute(_NEW_PLACES, batch)
        connection.execute(_FILL, batch)
        after = upto
