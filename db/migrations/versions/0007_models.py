"""What each model owes, and which workers can make it."""

from __future__ import annotations

revision = "0007"
down_revision = "0006"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
