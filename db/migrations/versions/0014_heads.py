"""Trained heads."""

from __future__ import annotations

revision = "0014"
down_revision = "0013"
compatible_from = "0001"


def upgrade() -> None:
    pass
