"""Since when a video waits for something that is not its fault."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
compatible_from = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE reelvec.jobs ADD COLUMN infra_since timestamptz")
