"""A frame pack: the 96 frames of one video by one sampling policy, in one run of bytes.

Whoever may write to the store may write anything there: its name, which the database knows, says
whether a pack is as it was written (`workers.frames.store`). Whatever comes, no size in it is
allocated before it was compared with what it must be.

Magic, format and the length of the header; the header (JSON), the strip, the compressed pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from db.errors import PackError
from db.jobs.sampler_version import VERSION as SAMPLER_VERSION
from workers.backbones.registry import PREPROCESSING
from workers.frames import codec
from workers.frames.codec import Relative
from workers.frames.header import Header
from workers.frames.store import MAX_BYTES
from workers.sampling.answers import Done
from workers.sampling.frames import Frames
from workers.sampling.plan import SHAPE

MAGIC, FORMAT = b"reelpack", 2
#: Magic, format, bytes of the header.
_BEGINNING = struct.Struct("<8sII")


@dataclass(frozen=True)
class Pack:
    """What one sampling made of a video, and what a worker needs that never opens the video.

    `policy`: the sampling policy. `size_bytes`: of the video's file. `strip`: a WebP picture of
    three of the frames (`workers.sampling.drawing.strip`), if one was wanted.
    """

    frames: Frames
    policy: str
    size_bytes: int
    strip: bytes | None = None


def encode(pack: Pack) -> bytes:
    """The pack as bytes, without loss: `decode` gives an equal one."""
    payload, relative = codec.compress(pack.frames.pixels)
    header = Header(
        recipe=PREPROCESSING,
        sampler_version=SAMPLER_VERSION,
        policy=pack.policy,
        etag=pack.frames.version,
        size_bytes=pack.size_bytes,
        bytes_read=pack.frames.bytes_read,
        fetch_seconds=pack.frames.fetch_seconds,
        sampled=Done.of(pack.frames),
        over_time=relative.over_time,
        across=relative.across,
        strip_bytes=None if pack.strip is None else len(pack.strip),
    )
    text = header.model_dump_json().encode()
    beginning = _BEGINNING.pack(MAGIC, FORMAT, len(text))
    return b"".join([beginning, text, pack.strip or b"", payload])


def decode(
    data: bytes, *, new_frames: Callable[[], np.ndarray] = lambda: np.empty(SHAPE, np.uint8)
) -> Pack:
    """The pack that `data` is. `new_frames` gives the memory for the pixels, uint8
    `[96, 224, 224, 3]` (`Engine.new_frames`).

    Raises `PackError`: pack_damaged for bytes that are no pack, pack_foreign for those of another
    format, sampler or pixel recipe. That they are those that were written is known from their name:
    `workers.frames.store.verified`.
    """
    header, strip, payload = _parts(data)
    made_by = (header.recipe, header.sampler_version)
    if made_by != (PREPROCESSING, SAMPLER_VERSION):
        raise PackError(
            "pack_foreign",
            f"the frames are of recipe and sampler {made_by}, and this version makes "
            f"{(PREPROCESSING, SAMPLER_VERSION)}",
        )
    pixels = new_frames()
    try:
        codec.decompress(payload, pixels, Relative(header.over_time, header.across))
    except codec.BadPayloadError as error:
        raise _damaged(f"its pixels cannot be read: {error}") from error
    frames = header.sampled.frames(
        pixels,
        version=header.etag,
        bytes_read=header.bytes_read,
        fetch_seconds=header.fetch_seconds,
    )
    return Pack(frames, header.policy, header.size_bytes, strip)


def _parts(data: bytes) -> tuple[Header, bytes | None, memoryview]:
    """Header, strip and compressed pixels."""
    if not _BEGINNING.size < len(data) <= MAX_BYTES:
        raise _damaged(f"it has {len(data)} bytes")
    magic, number, length = _BEGINNING.unpack_from(data)
    if magic != MAGIC:
        raise _damaged(f"it begins {magic!r}")
    if number != FORMAT:
        raise PackError(
            "pack_foreign", f"the pack has format {number}, and this version reads {FORMAT}"
        )
    end = _BEGINNING.size + length
    try:
        header = Header.model_validate_json(data[_BEGINNING.size : end])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged(f"its header is wrong: {where}: {first['msg']}") from None
    view = memoryview(data)
    if header.strip_bytes is None:
        return header, None, view[end:]
    return header, data[end : end + header.strip_bytes], view[end + header.strip_bytes :]


def _damaged(why: str) -> PackError:
    return PackError("pack_damaged", f"the frame pack is damaged: {why}")
