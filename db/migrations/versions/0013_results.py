"""Neighbours within a category and among windows, near-duplicates, trained heads."""

from __future__ import annotations

revision = "0013"
down_revision = "0012"
compatible_from = "0001"


def upgrade() -> None:
    pass
