"""A single picture as a video that stands still: somebody searches by it."""

from __future__ import annotations

import time
from contextlib import closing

import av
import numpy as np

from db.errors import VideoError
from db.media import MediaFacts
from workers.sampling.frames import STAGE, Decoded
from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.decode import sample
from workers.sampling.inside.formats import KNOWN_STILLS, STILL_CODECS, STILL_FORMATS
from workers.sampling.inside.frame_buffer import FrameBuffer
from workers.sampling.inside.opening import (
    MAX_PIXELS,
    open_container,
    picture_stream,
    refuse_large,
)
from workers.sampling.plan import FRAMES

#: FFmpeg's demuxers of pictures state this rate.
FPS = 25.0


def sample_or_still(file: ByteFile, policy: str, out: np.ndarray) -> Decoded:
    """The frames of a video, or of a picture where the file is one. Raises as `sample`."""
    try:
        return sample(file, policy, out)
    except VideoError as error:
        if error.code != "not_media" or not _begins_like_a_picture(file):
            raise
    try:
        return _still(file, out)
    except (VideoError, av.error.FFmpegError, StopIteration) as error:
        if isinstance(error, VideoError) and error.code != "not_media":
            raise
        why = (
            f"no whole picture of at most {MAX_PIXELS:,} pixels comes out of this file; those that "
            f"are read: {KNOWN_STILLS}"
        )
        raise VideoError("undecodable", why, stage=STAGE) from error


def _still(file: ByteFile, out: np.ndarray) -> Decoded:
    """The file's first picture in all slots of `out`, uint8 `[96, 224, 224, 3]`."""
    started = time.process_time()
    decoders = ",".join(STILL_CODECS)
    with closing(open_container(file, False, decoders, STILL_FORMATS)) as container:
        stream = picture_stream(container, STILL_CODECS)
        refuse_large(stream)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        slots = np.zeros(FRAMES, np.int64)
        buffer = FrameBuffer(slots, out, stream.sample_aspect_ratio)
        buffer.take(0, next(container.decode(stream)))
        codec = stream.codec_context.codec.canonical_name
    return Decoded(
        pixels=out,
        indices=slots,
        pts_seconds=np.zeros(FRAMES),
        facts=MediaFacts(codec, *buffer.shown_size, FPS, 1 / FPS),
        frame_count=1,
        frames_decoded=1,
        decode_mode="full",
        decode_errors=0,
        damaged_share=float(bool(buffer.corrupt)),
        decode_seconds=time.process_time() - started,
    )


def _begins_like_a_picture(file: ByteFile) -> bool:
    file.seek(0)
    head = file.read(12)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")) or (
        head[:4] == b"RIFF" and head[8:] == b"WEBP"
    )
