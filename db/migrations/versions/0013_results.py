"""What people ask of results in SQL."""

from __future__ import annotations

revision = "0013"
down_revision = "0012"
compatible_from = "0001"


def upgrade() -> None:
    pass
