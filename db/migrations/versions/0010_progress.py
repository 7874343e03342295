"""What people read of progress: cancelled videos are no throughput."""

from __future__ import annotations

revision = "0010"
down_revision = "0009"
compatible_from = "0001"


def upgrade() -> None:
    pass
