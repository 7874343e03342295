"""What a sampler found out about a video: how much of it was damaged, and which sampler looked."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
