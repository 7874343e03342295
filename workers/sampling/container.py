"""Opening a video: which formats and codecs are let in, what the header says, and which error an unreadable file is.

Media is hostile until decoded, so everything here is an allow-list, and a decoder is not opened before its name was
found on one. Files are read through the object given and through nothing else: no protocol is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from db.errors import VideoError
from workers.sampling.boxes import ByteFile, is_fragmented
from workers.sampling.formats import (
    CODECS,
    DECODERS,
    FORMATS,
    KNOWN_FORMATS,
    LOOSE_FORMATS,
    PICTURE_FORMATS,
    UNTIMED_FORMATS,
)
from workers.sampling.plan import MAX_SECONDS
from workers.sampling.rates import MOST_CAMERA_FPS, RAW_FPS, fps_of, measured_fps
from workers.sampling.refused import HEAD_BYTES, description

STAGE = "sample"

#: 36 megapixels: 8K and a little more; a decoder may keep 17 such pictures.
MAX_PIXELS = 36_000_000
#: Streams of pictures and sound, and those of every kind: each costs a decoder while FFmpeg probes.
MAX_STREAMS = 16
MAX_TRACKS = 64
#: Read for one video, all streams together: a minute of pictures and a few sounds of 1,200 packets a second.
MAX_PACKETS = 300_000

#: What a damaged or boasting header may claim: more is cut to three years and to what an `integer` column holds.
LONGEST_SECONDS = 1e8
MOST_FRAMES = 2**31 - 1

#: Packets are kept up to this size.
KEPT_BYTES = 64 << 20
#: What a kept packet costs beside its data.
PACKET_BYTES = 1024
#: A file that ends before this part of what it promised was cut short.
WHOLE = 0.9

#: FFmpeg reads at most this much at a time from the file object.
BUFFER_BYTES = 256 << 10

_NOT_MOVING = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_EBML = b"\x1a\x45\xdf\xa3"
#: Boxes that an mp4 or QuickTime file begins with.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


@dataclass(frozen=True)
class Header:
    """What a file says about itself before anything is decoded."""

    fps: float
    duration_seconds: float
    frame_count: int
    #: the file holds a count of its frames and shows them all; otherwise (mkv, webm, mpegts, fragmented mp4) it follows
    #: from time, or (mp4 with an edit list) only some of the frames counted are shown
    is_counted: bool


class OpenVideo:
    """An open container and its one stream of pictures, to be read once from the start (or again after `rewind`).

    Raises `VideoError`: empty_file, not_media, truncated, no_video, unsupported_codec, over_limits.
    """

    def __init__(self, file: ByteFile) -> None:
        if not file.seek(0, os.SEEK_END):
            raise VideoError("empty_file", "the file has no bytes", stage=STAGE)
        self._file = file
        self._fragmented = is_fragmented(file)
        self._start()
        if not self.decoder.width:
            self._refuse_forgotten_size()

    def _start(self) -> None:
        self.container = _open(self._file, self._fragmented)
        self.stream = _picture_stream(self.container)
        self.decoder = self.stream.codec_context
        _refuse_large(self.stream)
        self.decoder.thread_count = 1  # one process per core does better than threads within
        self.decoder.options = {"max_pixels": str(MAX_PIXELS)}
        self.codec: str = self.decoder.codec.canonical_name
        self._unit_seconds = float(self.stream.time_base or 0)
        self.start_seconds = (self.container.start_time or 0) / av.time_base
        #: from there to the end of the last packet of any stream, and whether the file has no more of them
        self.reached_seconds = 0.0
        self.at_end = False
        self._demuxed = self._demux()
        self._returned: list[Packet[Stream]] = []

    def _refuse_forgotten_size(self) -> None:
        """FFmpeg forgets a size above `max_pixels`: read what the container says of it, with no decoder open."""
        self.close()
        with closing(_open(self._file, self._fragmented, decoders="none")) as unprobed:
            _refuse_large(_picture_stream(unprobed))
        self.rewind()

    def rewind(self) -> None:
        """Begin again with a fresh decoder."""
        self.close()
        self._start()

    def header(self) -> Header:
        """From what the file says, or, where it does not say how long or how fast it is, from counting."""
        stream, duration = self.stream, _duration_seconds(self.container, self.stream)
        fps = fps_of(stream.average_rate)  # `guessed_rate` may count fields
        if self._fragmented or duration is None or fps is None or self._is_untimed(fps):
            return self._counted_header(duration)
        frame_count = stream.frames or max(1, int(duration * fps))
        is_edited = self._is_mov and round(duration * fps) < stream.frames
        is_counted = stream.frames > 0 and not is_edited
        stated = Header(fps, duration, min(frame_count, MOST_FRAMES), is_counted)
        if self.container.format.name not in LOOSE_FORMATS or duration >= 2 * MAX_SECONDS:
            return stated
        counted = self._counted_header(duration)
        return counted if counted.duration_seconds >= WHOLE * duration else stated

    def packets(self) -> Iterator[Packet[Stream]]:
        """The pictures' packets in file order. Damage that the demuxer cannot pass ends them."""
        returned, self._returned = self._returned, []
        return chain(returned, self._demuxed)

    def _demux(self) -> Iterator[Packet[Stream]]:
        if self._is_mov:  # its index says where each packet is: the sound's bytes need not even be asked for
            for stream in self.container.streams:
                stream.discard = Discard.default if stream.index == self.stream.index else Discard.all
        unit_seconds: dict[int, float] = {}  # by stream: multiplying fractions takes longer than reading the packet
        try:
            for count, packet in enumerate(self.container.demux()):
                if count == MAX_PACKETS:
                    message = f"more than {MAX_PACKETS} packets before the last wanted frame; at most so many are read"
                    raise VideoError("over_limits", message, stage=STAGE)
                if packet.pts is not None:
                    if packet.stream_index not in unit_seconds:
                        unit_seconds[packet.stream_index] = float(packet.time_base)
                    end_seconds = (packet.pts + (packet.duration or 0)) * unit_seconds[packet.stream_index]
                    self.reached_seconds = max(self.reached_seconds, end_seconds - self.start_seconds)
                if packet.size and packet.stream_index == self.stream.index:
                    yield packet
        except (av.error.FFmpegError, IndexError):
            pass  # IndexError: PyAV's own, at the end of an mpegts in which a stream appeared late
        self.at_end = True

    def _counted_header(self, stated_seconds: float | None) -> Header:
        """The header of a file without one (fragmented, or a browser's recording): the packets of its first minute.

        They are kept for `packets`, or, if they are too large for that, read again. `duration_seconds` of a longer file is
        `stated_seconds`, or ends with that minute. Raises `VideoError`: undecodable (no packet), not_media (one picture).
        """
        seconds: list[float] = []
        count = kept_bytes = 0
        named_fps = fps_of(self.stream.average_rate) or RAW_FPS
        is_longer = False
        for count, packet in enumerate(self._demuxed, 1):
            kept_bytes += packet.size + PACKET_BYTES
            if kept_bytes <= KEPT_BYTES:
                self._returned.append(packet)
            if packet.pts is not None:
                seconds.append(self.seconds(packet.pts))
            is_longer = (seconds[-1] - seconds[0] if seconds else count / named_fps) >= MAX_SECONDS
            if is_longer:
                break
        if not count:
            raise VideoError("undecodable", "the file has a stream of pictures without a picture", stage=STAGE)
        if count == 1 and self.container.format.name in PICTURE_FORMATS:
            message = f"a {self.container.format.name} of one picture, and no video"
            raise VideoError("not_media", message, stage=STAGE)
        fps = self._measured_fps(seconds, count) if seconds else named_fps
        duration = max(MAX_SECONDS, self._trusted(stated_seconds)) if is_longer else count / fps
        if kept_bytes > KEPT_BYTES:
            self.rewind()
        return Header(fps, duration, count, is_counted=False)

    def _is_untimed(self, fps: float) -> bool:
        """What FFmpeg says of length and rate is a guess, or the rate of a clock: of a flv that names none."""
        is_clock = not self.stream.frames and fps > MOST_CAMERA_FPS
        return is_clock or self.container.format.name in UNTIMED_FORMATS

    def _trusted(self, stated_seconds: float | None) -> float:
        name = self.container.format.name
        return 0.0 if stated_seconds is None or self._fragmented or name in UNTIMED_FORMATS else stated_seconds

    def _measured_fps(self, seconds: list[float], count: int) -> float:
        stream, name = self.stream, self.container.format.name
        named = map(fps_of, (stream.guessed_rate, stream.average_rate, self.decoder.framerate))
        is_raw = name in UNTIMED_FORMATS and name not in PICTURE_FORMATS
        return measured_fps(seconds, count, named, is_rough=is_raw or len(seconds) < count)

    @property
    def _is_mov(self) -> bool:
        return "mp4" in self.container.format.name

    def seconds(self, pts: int) -> float:
        """A presentation time of the stream, from the file's start."""
        return min(LONGEST_SECONDS, max(0.0, float(pts * self._unit_seconds - self.start_seconds)))

    def close(self) -> None:
        self.container.close()


def _open(file: ByteFile, fragmented: bool, decoders: str = ",".join(DECODERS)) -> InputContainer:
    """The one place that lets FFmpeg at a file. `decoders`: those it may open by itself while it probes."""
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "none",
        "codec_whitelist": decoders,
        "max_pixels": str(MAX_PIXELS),
        "max_streams": str(MAX_TRACKS),
    }
    if fragmented:  # otherwise FFmpeg reads all fragments of a seekable file before it gives the first packet
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
        return VideoError("truncated", "an mp4 without a readable index (moov): was its upload cut short?", stage=STAGE)
    if head.startswith(_EBML):
        return VideoError("truncated", "a mkv or webm that ends within its header", stage=STAGE)
    what = description(head)
    message = f"this is {what}" if what else f"containers that are read: {KNOWN_FORMATS}"
    return VideoError("not_media", f"{message} (the file begins with {head[:16]!r})", stage=STAGE)


def _picture_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures, its codec allowed."""
    tracks = sum(stream.type in ("video", "audio") for stream in container.streams)
    if tracks > MAX_STREAMS:
        raise VideoError("over_limits", f"{tracks} picture and sound streams; at most {MAX_STREAMS}", stage=STAGE)
    moving = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    if not moving:
        raise VideoError("no_video", "the file has no stream of moving pictures", stage=STAGE)
    decoder = moving[0].codec_context
    name = decoder.codec.canonical_name if decoder else "unknown"
    if name not in CODECS:
        message = f"codec {name} is not decoded; which are: docs/sampling.md"
        raise VideoError("unsupported_codec", message, stage=STAGE)
    return moving[0]


def _refuse_large(stream: VideoStream) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        message = f"pictures of {width} x {height} pixels; at most {MAX_PIXELS} are decoded"
        raise VideoError("over_limits", message, stage=STAGE)


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return min(seconds, LONGEST_SECONDS) if seconds > 0 else None
