"""What a sampler may say, checked to the last field: a video may have taken the process over, so
its words are not trusted.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from db.media import MediaFacts
from workers.sampling.frames import Frames
from workers.sampling.plan import FRAMES
from workers.sampling.wire import SLOTS

#: What fits into an `integer` column.
Count = Annotated[int, Field(ge=0, lt=2**31)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]

MAX_MESSAGE = 500


class NonsenseError(Exception):
    """A sampler said something that samplers do not say."""


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Ready(_Answer):
    """Sent once, when a process may be given videos. `seccomp`: its system calls are filtered."""

    kind: Literal["ready"]
    seccomp: bool


class Read(_Answer):
    """A block of the source is needed, in this slot of the memory."""

    kind: Literal["read"]
    block: Count
    slot: Annotated[int, Field(ge=0, lt=SLOTS)]


class Failed(_Answer):
    """This video has no frames to give."""

    kind: Literal["failed"]
    code: Literal[
        "empty_file",
        "not_media",
        "no_video",
        "truncated",
        "undecodable",
        "unsupported_codec",
        "encrypted",
        "over_limits",
        "sampler_defect",
    ]
    message: str

    @property
    def clean_message(self) -> str:
        """Short and printable: no control characters, no half surrogates, nothing that Postgres
        refuses.
        """
        return "".join(
            letter if letter.isprintable() else "?" for letter in self.message[:MAX_MESSAGE]
        )


class Aborted(_Answer):
    """The video was dropped as asked."""

    kind: Literal["aborted"]


class Done(_Answer):
    """The frames are in memory; see `workers.sampling.frames.Decoded`."""

    kind: Literal["done"]
    codec: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
    width_px: Size
    height_px: Size
    fps: Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
    duration_seconds: Seconds
    frame_count: Size
    indices: Annotated[list[Count], Field(min_length=FRAMES, max_length=FRAMES)]
    pts_seconds: Annotated[list[Seconds], Field(min_length=FRAMES, max_length=FRAMES)]
    frames_decoded: Count
    decode_mode: Literal["sparse", "full"]
    decode_errors: Count
    damaged_share: Annotated[float, Field(ge=0, le=1)]
    decode_seconds: Seconds

    def frames(
        self, pixels: np.ndarray, *, version: str | None, bytes_read: int, fetch_seconds: float
    ) -> Frames:
        """The frames with these pixels, of this version of the source."""
        return Frames(
            pixels=pixels,
            indices=np.array(self.indices, np.int64),
            pts_seconds=np.array(self.pts_seconds, np.float64),
            facts=MediaFacts(
                self.codec, self.width_px, self.height_px, self.fps, self.duration_seconds
            ),
            version=version,
            frame_count=self.frame_count,
            frames_decoded=self.frames_decoded,
            decode_mode=self.decode_mode,
            decode_errors=self.decode_errors,
            damaged_share=self.damaged_share,
            bytes_read=bytes_read,
            fetch_seconds=fetch_seconds,
            decode_seconds=self.decode_seconds,
        )

    @classmethod
    def of(cls, frames: Frames) -> Self:
        """What was said of these frames."""
        same = ("frame_count", "frames_decoded", "decode_mode", "decode_errors", "damaged_share")
        return cls.model_validate(
            {
                "kind": "done",
                **vars(frames.facts),
                **{name: getattr(frames, name) for name in (*same, "decode_seconds")},
                "indices": frames.indices.tolist(),
                "pts_seconds": frames.pts_seconds.tolist(),
            }
        )


Answer = Ready | Read | Failed | Aborted | Done

_ANSWERS: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def parse(text: bytes) -> Answer:
    """One answer from its JSON. Raises `NonsenseError`."""
    try:
        return _ANSWERS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise NonsenseError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
