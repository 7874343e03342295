"""What the frame store holds, and what must be deleted from it."""

from __future__ import annotations

revision = "0019"
down_revision = "0018"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
