"""Counts that are shared hold categories apart from what jobs wait for (`db/progress/shared_census.py`).

Older versions go on: who finds counts of another form counts for itself. `sets` and `sets_of` are
theirs alone, and go once none of them runs.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
compatible_from = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE reelvec.census ADD COLUMN IF NOT EXISTS categories jsonb")
