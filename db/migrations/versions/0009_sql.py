"""Functions, views and comments for those who ask with SQL."""

from __future__ import annotations

revision = "0009"
down_revision = "0008"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
