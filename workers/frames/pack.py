"""A frame pack: the 96 frames of one video by one sampling policy, in one run of bytes.

Whoever may write to the store may write anything there, so that nothing of a pack is believed
before it was checked, and no size in it is allocated before it was compared with what it must be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workers.sampling.frames import Frames
from workers.sampling.plan import SHAPE

#: No pack is larger: the pixels as they are have 14.45 MB, a strip some 6 KB.
MAX_BYTES = 16 << 20


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
    raise NotImplementedError


def decode(
    data: bytes, *, new_frames: Callable[[], np.ndarray] = lambda: np.empty(SHAPE, np.uint8)
) -> Pack:
    """The pack that `data` is. `new_frames` gives the memory for the pixels, uint8
    `[96, 224, 224, 3]` (`Engine.new_frames`).

    Raises `PackError`: pack_damaged for bytes that are not as they were written, pack_foreign for
    those of another format or pixel recipe.
    """
    raise NotImplementedError


def digest(data: bytes) -> str:
    """The name of a pack in the store: the SHA-256 of all its bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
