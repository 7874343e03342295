"""Pooled vectors at half of their size."""

from __future__ import annotations

revision = "0017"
down_revision = "0016"
compatible_from = "0001"


def upgrade() -> None:
    pass
