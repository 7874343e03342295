"""What sampling makes of a video, and the promise of whatever gives it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from db.errors import VideoError
from db.media import MediaFacts

#: The stage of every error that sampling raises.
STAGE = "sample"
#: Of the 96 slots. Up to here vectors stay near those of the whole file; above, whatever the
#: decoder left is noise. Measured in docs/sampling.md.
MAX_DAMAGED_SHARE = 0.1


@dataclass(frozen=True)
class Decoded:
    """96 frames of one video and how they were come by.

    `pixels` uint8 `[96, 224, 224, 3]`; `indices` int64 `[96]` and `pts_seconds` float64 `[96]`:
    position in presentation order and time from the file's start of the frame in each slot.
    `frame_count`: frames that the video has by its header, or that were counted in its first
    minute. `decode_mode`: "sparse" or "full". `decode_errors`: packets the decoder refused, and
    corrupt frames. `damaged_share`: of the 96 slots, from 0 to 1: those whose frame was lost or
    that the decoder itself calls damaged. `decode_seconds`: of CPU.
    """

    pixels: np.ndarray
    indices: np.ndarray
    pts_seconds: np.ndarray
    facts: MediaFacts
    frame_count: int
    frames_decoded: int
    decode_mode: str
    decode_errors: int
    damaged_share: float
    decode_seconds: float


@dataclass(frozen=True)
class Frames(Decoded):
    """Frames as they come to the worker. `version`: the source's etag; `fetch_seconds`: spent in
    reads of it.
    """

    version: str | None
    bytes_read: int
    fetch_seconds: float


class FrameSource(Protocol):
    """One video whose frames can be had. `etag` names its version, `size_bytes` is the size of its
    file.
    """

    @property
    def etag(self) -> str | None: ...
    @property
    def size_bytes(self) -> int: ...

    def frames(self, policy: str, *, stop: threading.Event | None = None) -> Frames:
        """Its frames by a sampling policy. Raises `VideoError` (stage fetch or sample), `Cancelled`
        once `stop` is set, `UsageError` for an unknown policy, `RefusedConfigurationError` if
        nothing can be sampled here.
        """
        ...


def refusal(damaged_share: float) -> VideoError | None:
    """The error (damaged, permanent) that a video with this share of damaged slots ends with, if it
    has too many.
    """
    if damaged_share <= MAX_DAMAGED_SHARE:
        return None
    message = (
        f"{damaged_share:.0%} of the frames are lost, or reported as damaged by the decoder; at "
        f"most {MAX_DAMAGED_SHARE:.0%} is allowed: fetch the file again from where it came, then "
        "run reelvec retry --error damaged"
    )
    return VideoError("damaged", message, stage=STAGE)
