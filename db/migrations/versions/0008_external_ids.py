"""Two renditions may have one id: the ordinary index is made before the unique one goes."""

from __future__ import annotations

revision = "0008"
down_revision = "0007"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
