"""Letting FFmpeg at a file: which formats and codecs are let in, and which error a file is that is
none of them.

Media is hostile until decoded, so everything here is an allow-list, and a decoder is not opened
before its name was found on one. Files are read through the object given and through nothing else:
no protocol is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from db.errors import VideoError
from workers.sampling.frames import STAGE
from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.ebml import EBML
from workers.sampling.inside.formats import CODECS, DECODERS, FORMATS, KNOWN_FORMATS
from workers.sampling.inside.refused import HEAD_BYTES, description, is_text

#: 36 megapixels: 8K and a little more; a decoder may keep 17 such pictures.
MAX_PIXELS = 36_000_000
#: Streams of pictures and sound, and those of every kind: each costs a decoder while FFmpeg probes.
MAX_STREAMS = 16
MAX_TRACKS = 64
#: FFmpeg reads at most this much at a time from the file object.
BUFFER_BYTES = 256 << 10

_NOT_MOVING = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
#: Boxes that an mp4 or QuickTime file begins with.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def open_container(
    file: ByteFile,
    fragmented: bool,
    decoders: str = ",".join(DECODERS),
    formats: str = FORMATS,
) -> InputContainer:
    """The one place that lets FFmpeg at a file. `decoders`: those it may open by itself while it
    probes.
    """
    options = {
        "format_whitelist": formats,
        "protocol_whitelist": "none",
        "codec_whitelist": decoders,
        "max_pixels": str(MAX_PIXELS),
        "max_streams": str(MAX_TRACKS),
    }
    # otherwise FFmpeg reads all fragments of a seekable file before it gives the first packet
    if fragmented:
        options["fflags"] = "+ignidx"
    file.seek(0)
    is_gif = file.read(3) == b"GIF"
    file.seek(0)
    try:
        container: InputContainer = av.open(
            _OneWay(file) if is_gif else file,
            mode="r",
            options=options,
            buffer_size=BUFFER_BYTES,
            metadata_errors="replace",
        )
    except MemoryError as error:  # FFmpeg's word for a stream too many, too
        message = f"more than {MAX_TRACKS} streams, or an index that a sampler has no memory for"
        raise VideoError("over_limits", message, stage=STAGE) from error
    except av.error.FFmpegError as error:
        raise _unreadable(file) from error
    return container


class _OneWay:
    """A file that FFmpeg cannot seek in: otherwise it reads all of a gif to count its pictures."""

    def __init__(self, file: ByteFile) -> None:
        self.read = file.read


def _unreadable(file: ByteFile) -> VideoError:
    """What a file is that no allowed format recognises: its first bytes say."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head[4:8] in _FIRST_BOXES:
        return VideoError(
            "truncated",
            "an mp4 without a readable index (moov): was its upload cut short?",
            stage=STAGE,
        )
    if head.startswith(EBML):
        return VideoError("truncated", "a mkv or webm that ends within its header", stage=STAGE)
    message = f"(the file begins with {head[:16]!r})"
    if what := description(head):
        message = f"this is {what} {message}"
    else:
        what = "text, no video" if is_text(head) else "no kind of video that is read"
        message = f"this is {what} {message}; containers that are read: {KNOWN_FORMATS}"
    return VideoError("not_media", message, stage=STAGE)


def picture_stream(container: InputContainer, codecs: Sequence[str] = CODECS) -> VideoStream:
    """The first stream of moving pictures, its codec allowed."""
    tracks = sum(stream.type in ("video", "audio") for stream in container.streams)
    if tracks > MAX_STREAMS:
        raise VideoError(
            "over_limits", f"{tracks} picture and sound streams; at most {MAX_STREAMS}", stage=STAGE
        )
    moving = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    if not moving:
        raise VideoError("no_video", "the file has no stream of moving pictures", stage=STAGE)
    decoder = moving[0].codec_context
    name = decoder.codec.canonical_name if decoder else "unknown"
    if name not in codecs:
        message = f"codec {name} is not decoded; which are: docs/sampling.md"
        raise VideoError("unsupported_codec", message, stage=STAGE)
    return moving[0]


def refuse_large(stream: VideoStream) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        message = f"pictures of {width} x {height} pixels; at most {MAX_PIXELS} are decoded"
        raise VideoError("over_limits", message, stage=STAGE)
