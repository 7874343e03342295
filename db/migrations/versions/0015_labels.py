"""New labels for stored vectors."""

from __future__ import annotations

revision = "0015"
down_revision = "0014"
compatible_from = "0001"


def upgrade() -> None:
    pass
