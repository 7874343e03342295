"""Opening a video: which formats and codecs are let in, what the header says, and which error an unreadable file is.

Media is hostile until decoded, so everything here is an allow-list, and a decoder is not opened before its name was
found on one. Files are read through the object given and through nothing else: no protocol is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from db.errors import VideoError
from workers.sampling.boxes import ByteFile, is_fragmented
from workers.sampling.ebml import EBML
from workers.sampling.encryption import Encryption
from workers.sampling.plan import MAX_SECONDS

STAGE = "sample"

#: Containers by FFmpeg's names.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi"
#: Codecs by FFmpeg's names, and the decoders of this build that stand for them under another name.
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")
DECODERS = (*CODECS, "libdav1d")
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
#: More frames a second than this are damage, and not believed: an avi may claim 2^31 - 1.
MOST_FPS = 1e6
#: A named frame rate this near to the measured one, in parts of it, is the same.
SAME_FPS = 0.01

#: FFmpeg reads at most this much at a time from the file object.
BUFFER_BYTES = 256 << 10

ENCRYPTED = "the pictures are encrypted (DRM) and only a decrypted copy can be sampled"
_NOT_MOVING = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
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

    `encryption`: of this file. Raises `VideoError`: empty_file, not_media, truncated, no_video, unsupported_codec, over_limits.
    """

    def __init__(self, file: ByteFile, encryption: Encryption) -> None:
        if not file.seek(0, os.SEEK_END):
            raise VideoError("empty_file", "the file has no bytes", stage=STAGE)
        self._encryption = encryption
        self._file = encryption.file
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
        #: the demuxer ended with an error
        self.broke_off = False
        self._encryption.begin(self.stream)
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
        fps = _fps(stream.average_rate) or _fps(stream.guessed_rate)
        if self._fragmented or duration is None or fps is None:
            return self._counted_header()
        frame_count = stream.frames if stream.frames > 0 else max(1, int(duration * fps))
        is_edited = self._is_mov and round(duration * fps) < stream.frames
        is_counted = stream.frames > 0 and not is_edited
        return Header(fps, duration, min(frame_count, MOST_FRAMES), is_counted)

    def recounted(self) -> Header:
        """For a file whose header is wrong: the same as if it had none, everything read again from the start."""
        self.rewind()
        return self._counted_header()

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
                        unit_seconds[packet.stream_index] = float(packet.time_base or 0)
                    end_seconds = (packet.pts + (packet.duration or 0)) * unit_seconds[packet.stream_index]
                    self.reached_seconds = max(self.reached_seconds, end_seconds - self.start_seconds)
                if packet.size and packet.stream_index == self.stream.index:
                    yield self._marked(packet)
        except IndexError:
            pass  # PyAV's own, at the end of an mpegts in which a stream appeared late
        except av.error.FFmpegError:
            self.broke_off = True
        self.at_end = True

    def _marked(self, packet: Packet[Stream]) -> Packet[Stream]:
        """The packet as its decoder is to have it, or marked as one that none can decode."""
        if not self._encryption.covers(packet):
            return self._encryption.unwrapped(packet)
        packet.opaque = (
            object()
        )  # a mark; one of its own, because PyAV forgets an object with the first packet that had it
        return packet

    def refuse_encrypted(self, packet: Packet[Stream]) -> None:
        """`VideoError` (encrypted) for a packet that has to be decoded and cannot be without a key."""
        if packet.opaque is not None:
            seconds = 0.0 if packet.pts is None else self.seconds(packet.pts)
            raise VideoError("encrypted", f"{ENCRYPTED}, from {seconds:.1f} s on", stage=STAGE)

    def _counted_header(self) -> Header:
        """The header of a file without one (fragmented, or a browser's recording): the packets of its first minute.

        They are kept for `packets`, or, if they are too large for that, read again. `duration_seconds` ends with that
        minute. Raises `VideoError` (undecodable) if there is no packet.
        """
        seconds: list[float] = []
        kept_bytes = 0
        for packet in self._demuxed:
            kept_bytes += packet.size + PACKET_BYTES
            if kept_bytes <= KEPT_BYTES:
                self._returned.append(packet)
            if packet.pts is not None:
                seconds.append(self.seconds(packet.pts))
                if seconds[-1] - seconds[0] >= MAX_SECONDS:
                    break
        if not seconds:
            raise VideoError("undecodable", "the file has a stream of pictures without a picture", stage=STAGE)
        fps = self._measured_fps(seconds) if len(seconds) > 1 else 1 / self._shown_seconds(packet)
        duration = MAX_SECONDS if seconds[-1] - seconds[0] >= MAX_SECONDS else len(seconds) / fps
        if kept_bytes > KEPT_BYTES:
            self.rewind()
        return Header(fps, duration, len(seconds), is_counted=False)

    def _shown_seconds(self, only: Packet[Stream]) -> float:
        """How long the only picture of a file is shown."""
        stated = self.container.duration or 0
        seconds = (only.duration or 0) * self._unit_seconds or stated / av.time_base
        return min(seconds, LONGEST_SECONDS) if seconds > 0 else 1.0

    def _measured_fps(self, seconds: list[float]) -> float:
        """Frames per second of these times; a rate that the file names wins if it is that one: times may be rounded."""
        span = max(seconds) - min(seconds)
        measured = min(MOST_FPS, (len(seconds) - 1) / span) if span else 1.0
        named = (_fps(self.stream.guessed_rate), _fps(self.stream.average_rate))
        return next((fps for fps in named if fps and abs(fps - measured) < SAME_FPS * measured), measured)

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
    try:
        container: InputContainer = av.open(
            file, mode="r", options=options, buffer_size=BUFFER_BYTES, metadata_errors="replace"
        )
    except MemoryError as error:  # FFmpeg's word for a stream too many, too
        message = f"more than {MAX_TRACKS} streams, or an index that a sampler has no memory for"
        raise VideoError("over_limits", message, stage=STAGE) from error
    except av.error.FFmpegError as error:
        raise _unreadable(file) from error
    return container


def _unreadable(file: ByteFile) -> VideoError:
    """What a file is that no allowed format recognises: its first bytes say."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in _FIRST_BOXES:
        return VideoError("truncated", "an mp4 without a readable index (moov): was its upload cut short?", stage=STAGE)
    if head.startswith(EBML):
        return VideoError("truncated", "a mkv or webm that ends within its header", stage=STAGE)
    return VideoError("not_media", f"the file begins with {head!r}; containers that are read: {FORMATS}", stage=STAGE)


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
        raise VideoError("unsupported_codec", f"codec {name}; decoded are {', '.join(CODECS)}", stage=STAGE)
    return moving[0]


def _refuse_large(stream: VideoStream) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        message = f"pictures of {width} x {height} pixels; at most {MAX_PIXELS} are decoded"
        raise VideoError("over_limits", message, stage=STAGE)


def _fps(rate: Fraction | None) -> float | None:
    fps = float(rate or 0)
    return fps if 0 < fps <= MOST_FPS else None


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return min(seconds, LONGEST_SECONDS) if seconds > 0 else None
