"""From the bytes of one video to its 96 frames: a pure function of a file object, run in a process
of its own.

Only the modules beside this one touch PyAV and Pillow.
"""

from __future__ import annotations

import time
from contextlib import closing
from itertools import chain
from typing import NamedTuple

import av
import numpy as np

from db.errors import VideoError
from db.media import MediaFacts
from workers.sampling import policies
from workers.sampling.frames import STAGE, Decoded
from workers.sampling.inside import keyframes
from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.container import (
    ENCRYPTED,
    LONGEST_SECONDS,
    WHOLE,
    Header,
    OpenVideo,
    is_whole,
)
from workers.sampling.inside.encryption import Encryption, encryption_of
from workers.sampling.inside.frame_buffer import FrameBuffer
from workers.sampling.inside.sparse import Decoding, OutOfStepError, SparsePass
from workers.sampling.plan import FRAMES, MAX_SECONDS, SHAPE, plan

#: What an encrypted file looks like to who does not know that it is.
LOOKS_ENCRYPTED = ("truncated", "undecodable", "no_video", "unsupported_codec")


def sample(file: ByteFile, policy: str, out: np.ndarray | None = None) -> Decoded:
    """Decode the frames that `policy` plans into `out`, uint8 `[96, 224, 224, 3]`, or into a new
    array.

    Raises `VideoError` (stage sample): empty_file, not_media, no_video, truncated, undecodable,
    unsupported_codec, encrypted, over_limits; `MemoryError`.
    """
    started = time.process_time()
    encryption = encryption_of(file)
    try:
        return _sample(
            file, encryption, policy, np.empty(SHAPE, np.uint8) if out is None else out, started
        )
    except VideoError as error:
        if error.code in LOOKS_ENCRYPTED and encryption.explains_failure():
            raise VideoError("encrypted", f"{ENCRYPTED}: {error}", stage=STAGE) from error
        raise
    except av.error.FFmpegError as error:  # a conversion that FFmpeg does not know
        raise VideoError(
            "undecodable", f"the frames cannot be converted: {error.strerror}", stage=STAGE
        ) from error


def _sample(
    file: ByteFile, encryption: Encryption, policy: str, out: np.ndarray, started: float
) -> Decoded:
    with closing(OpenVideo(file, encryption)) as video:
        header = video.header()
        indices = _planned(policy, header)
        mode, decoding, buffer = _fill(video, policy, indices, out)
        if video.at_end and not header.is_counted and encryption.explains_failure():
            # FFmpeg has left the rest out, of fragments or of a stream of packets
            raise VideoError(
                "encrypted", f"{ENCRYPTED}, from {video.reached_seconds:.1f} s on", stage=STAGE
            )
        if missing := _missing(decoding, header, planned=int(indices[-1]) + 1):
            if not is_whole(file):
                raise VideoError(
                    "truncated",
                    f"the file ends after {missing.what}: was its upload cut short?",
                    stage=STAGE,
                )
            if missing.is_lost(video):
                raise VideoError(
                    "truncated",
                    f"the file holds {missing.what}, and the rest of its bytes is no media: was "
                    "its download cut short?",
                    stage=STAGE,
                )
            header = video.recounted()
            indices = _planned(policy, header)
            mode, decoding, buffer = _fill(video, policy, indices, out)
        _refuse_undecodable(decoding, buffer)
        damaged_share = min(1.0, _damaged_share(decoding, buffer, mode) + video.lost_share)
        sources = buffer.fill()
        pts_seconds = _times(video, header.fps, sources)
        return Decoded(
            pixels=out,
            indices=np.array([position for position, _ in sources], dtype=np.int64),
            pts_seconds=pts_seconds,
            facts=MediaFacts(video.codec, *buffer.shown_size, header.fps, header.duration_seconds),
            frame_count=header.frame_count,
            frames_decoded=decoding.frames,
            decode_mode=mode,
            decode_errors=decoding.errors + buffer.corrupt,
            damaged_share=damaged_share,
            decode_seconds=time.process_time() - started,
        )


def _planned(policy: str, header: Header) -> np.ndarray:
    return plan(
        policy,
        fps=header.fps,
        duration_seconds=header.duration_seconds,
        frame_count=header.frame_count,
    )


def _fill(
    video: OpenVideo, policy: str, indices: np.ndarray, out: np.ndarray
) -> tuple[str, Decoding, FrameBuffer]:
    pixel_aspect = video.stream.sample_aspect_ratio
    for mode, way in KEY_FRAMES if policies.get(policy).key_frames_only else ALL_FRAMES:
        decoding, buffer = Decoding(video), FrameBuffer(indices, out, pixel_aspect)
        try:
            way(decoding, buffer)
        except OutOfStepError:
            if decoding.packets:  # else nothing was read yet
                video.rewind()
        else:
            return mode, decoding, buffer
    raise AssertionError("the last way takes every file")


def _decode_needed(decoding: Decoding, buffer: FrameBuffer) -> None:
    SparsePass(decoding, buffer).run()


def _decode_all(decoding: Decoding, buffer: FrameBuffer) -> None:
    """Decode every packet up to the last wanted frame and count what comes out."""
    last_frame = None
    for packet in chain(decoding.video.packets(), [None]):
        if packet is not None:
            decoding.packets += 1
            decoding.video.refuse_encrypted(packet)
        position = decoding.frames
        for last_frame in decoding.decode(packet):
            buffer.take(position, last_frame)
            position += 1
        if position > buffer.last:
            return
    if last_frame:
        buffer.clip(decoding.frames)
        buffer.take(decoding.frames - 1, last_frame)


#: The ways to fill a buffer, the cheapest first, and the mode that each is called. All but the last
#: raise `OutOfStepError` for a file that they cannot be used on.
ALL_FRAMES = (("sparse", _decode_needed), ("full", _decode_all))
KEY_FRAMES = (
    ("sparse", keyframes.from_index),
    ("sparse", keyframes.from_packets),
    ("full", keyframes.from_frames),
    ("full", _decode_all),
)


def _times(video: OpenVideo, fps: float, sources: list[tuple[int, int | None]]) -> np.ndarray:
    """Seconds from the file's start, float64 `[96]`, for each position and its presentation time.

    From position and rate alone where a time is missing, or where times do not rise: they start
    anew in the middle of joined recordings, and of an avi, asf or mxf with B-frames they are those
    of decoding.
    """
    if all(pts is not None for _, pts in sources):
        seconds = np.array(
            [video.seconds(pts) for _, pts in sources if pts is not None], dtype=np.float64
        )
        if (np.diff(seconds) >= 0).all():
            return seconds
    return np.array(
        [min(LONGEST_SECONDS, position / fps) for position, _ in sources], dtype=np.float64
    )


class Missing(NamedTuple):
    """How far a file went that ended long before what it promised: in words, and as a part of the
    promise.
    """

    what: str
    share: float

    def is_lost(self, video: OpenVideo) -> bool:
        """Whether as much of the bytes is no media: zeros or other files' bytes, as where a
        download has taken the room and not got the contents. Else media fill the file, and the
        promise was wrong.
        """
        media_bytes = video.reached_bytes - video.lost_bytes
        return media_bytes / video.size_bytes < (1 + self.share) / 2


def _missing(decoding: Decoding, header: Header, *, planned: int) -> Missing | None:
    """None: the file has (nearly) all of the first `planned` frames that it promised."""
    if not decoding.video.at_end or decoding.packets >= WHOLE * planned:
        return None
    if header.is_counted:
        what = f"{decoding.packets} of {planned} frames"
        return Missing(what, decoding.packets / planned)
    # frames may come at any pace: only time tells
    promised_seconds = min(MAX_SECONDS, header.duration_seconds)
    reached_seconds = decoding.video.reached_seconds
    what = f"{reached_seconds:.1f} of {promised_seconds:.1f} seconds"
    if reached_seconds >= WHOLE * promised_seconds:
        return None
    return Missing(what, reached_seconds / promised_seconds)


def _refuse_undecodable(decoding: Decoding, buffer: FrameBuffer) -> None:
    """`VideoError` (undecodable) if fewer than half of the different frames wanted could be
    decoded.
    """
    present = len({min(position, decoding.packets - 1) for position in buffer.wanted})
    if not buffer.taken or 2 * buffer.taken < present:
        message = (
            f"{buffer.taken} of {present} frames could be decoded, {decoding.errors} packets were "
            "refused"
        )
        raise VideoError("undecodable", message, stage=STAGE)


def _damaged_share(decoding: Decoding, buffer: FrameBuffer, mode: str) -> float:
    """The part of the 96 slots that shows no decoded frame.

    Where everything is decoded, frames are counted as they come out: one that was refused leaves no
    gap, it moves those behind it. So each refused packet counts as one packet's part of the video.
    """
    share = buffer.damaged_slots / FRAMES
    if mode == "full":
        share += decoding.lost / max(1, decoding.packets)
    return share
