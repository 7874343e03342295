"""A model for the first minute: tags of large label sets."""

from __future__ import annotations

revision = "0011"
down_revision = "0010"
compatible_from = "0001"


def upgrade() -> None:
    pass
