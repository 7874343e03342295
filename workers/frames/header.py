"""What a pack says of its frames, as JSON that is checked to the last field."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from workers.sampling.answers import Count, Done, Seconds

Bytes = Annotated[int, Field(ge=0, lt=2**63)]

#: Of a strip; the usual one has 6 KB.
MAX_STRIP_BYTES = 1 << 18


class Header(BaseModel):
    """`sampled`: the sampler's own answer. `recipe`: how pixels were made of the frames.
    `over_time`, `across`: see `workers.frames.codec`. `strip_bytes` None: there is no strip.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    recipe: Annotated[str, Field(max_length=100)]
    sampler_version: Count
    policy: Annotated[str, Field(max_length=100)]
    etag: Annotated[str, Field(max_length=2000)] | None
    size_bytes: Bytes
    bytes_read: Bytes
    fetch_seconds: Seconds
    sampled: Done
    over_time: bool
    across: bool
    strip_bytes: Annotated[int, Field(ge=0, le=MAX_STRIP_BYTES)] | None
