"""What the next worker of a job needs: its video, or frames that are sampled already."""

from __future__ import annotations

revision = "0020"
down_revision = "0019"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
