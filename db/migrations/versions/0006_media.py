"""What a sampler found out about a video: how much of it was damaged, and which sampler looked.

Everything is a nullable column: nothing is rewritten. Rows without a number were made by samplers that looked for neither
encryption nor damage (`db.jobs.sampler_version`).
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
compatible_from = "0001"

COLUMNS = (
    "ALTER TABLE reelvec.videos ADD COLUMN damaged_share real, ADD COLUMN sampler_version smallint",
    "ALTER TABLE reelvec.attempts ADD COLUMN sampler_version smallint",
    "ALTER TABLE reelvec.jobs ADD COLUMN recheck boolean",
)

DAMAGED = """
CREATE VIEW reelvec.damaged AS
SELECT v.video_id, v.uri, v.external_id, v.category, v.damaged_share, j.state, j.error_code
FROM reelvec.videos v JOIN reelvec.jobs j USING (video_id)
WHERE v.damaged_share > 0
"""


def upgrade() -> None:
    for statement in (*COLUMNS, DAMAGED):
        op.execute(statement)
