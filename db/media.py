"""What is known of a video's file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class MediaFacts:
    """What a video is, as its header says. Width and height as a player shows them."""

    codec: str
    width_px: int
    height_px: int
    fps: float
    duration_seconds: float


@dataclass(frozen=True)
class Media:
    """What one attempt learned of a video's file: its version, and what else is not None."""

    etag: str | None
    size_bytes: int | None = None
    facts: MediaFacts | None = None
    damaged_share: float | None = None
    sampler_version: int | None = None

    def columns(self) -> dict[str, Any]:
        """What is to be written into `videos`, by column."""
        known = vars(self) | (vars(self.facts) if self.facts else {})
        return {
            name: known[name]
            for name in MEDIA_COLUMNS
            if name == "etag" or known.get(name) is not None
        }


MEDIA_COLUMNS = (
    *("etag", "size_bytes", *(fact.name for fact in fields(MediaFacts))),
    *("damaged_share", "sampler_version"),
)
