"""Where each vector of an encoder lies on a map of two dimensions."""

from __future__ import annotations

revision = "0018"
down_revision = "0017"
compatible_from = "0001"


def upgrade() -> None:
    """Nothing yet."""
