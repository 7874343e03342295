"""Settings of the operator's desk."""

from __future__ import annotations

from pydantic import Field

from db.settings import Settings


class ProducerSettings(Settings):
    """What `enqueue` takes from the environment."""

    source: str | None = Field(
        None, description="The source for `enqueue` when you name none: a folder, list or address."
    )
