"""Pictures of videos."""

from __future__ import annotations

revision = "0016"
down_revision = "0015"
compatible_from = "0001"


def upgrade() -> None:
    pass
