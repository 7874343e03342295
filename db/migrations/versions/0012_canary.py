"""Reference vectors of each encoder, and how far workers may be from them."""

from __future__ import annotations

revision = "0012"
down_revision = "0011"
compatible_from = "0001"


def upgrade() -> None:
    pass
