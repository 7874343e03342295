"""What a worker is made of, and what waits for its device."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
compatible_from = "0001"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE reelvec.workers ADD COLUMN samplers int, ADD COLUMN cores real, ADD COLUMN videos_per_batch int,"
        " ADD COLUMN queued_windows int, ADD COLUMN running_windows int"
    )
