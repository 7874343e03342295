"""Settings of the operator's desk."""

from __future__ import annotations

from pydantic import Field

from db.settings import Settings


class ProducerSettings(Settings):
    """What `enqueue` takes from the environment."""

    source: str | None = Field(
        None, description="Source of an enqueue that names none: a folder, manifest, list or address."
    )
