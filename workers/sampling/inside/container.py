"""A video that is open: what its header says, or its packets if the header says nothing, and its
packets in order.
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
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from db.errors import VideoError
from workers.sampling.frames import STAGE
from workers.sampling.inside import ebml
from workers.sampling.inside.boxes import ByteFile, is_fragmented, read_at
from workers.sampling.inside.encryption import Encryption
from workers.sampling.inside.formats import LOOSE_FORMATS, PICTURE_FORMATS, UNTIMED_FORMATS
from workers.sampling.inside.gaps import Gaps
from workers.sampling.inside.holes import holes_of
from workers.sampling.inside.opening import (
    MAX_PIXELS,
    open_container,
    picture_stream,
    refuse_large,
)
from workers.sampling.inside.rates import MOST_CAMERA_FPS, RAW_FPS, fps_of, measured_fps
from workers.sampling.plan import MAX_SECONDS

#: Read for one video, all streams together: a minute of pictures and a few sounds of 1,200 packets
#: a second.
MAX_PACKETS = 300_000

#: What a damaged or boasting header may claim: more is cut to three years and to what an `integer`
#: column holds.
LONGEST_SECONDS = 1e8
MOST_FRAMES = 2**31 - 1

#: Packets are kept up to this size.
KEPT_BYTES = 64 << 20
#: What a kept packet costs beside its data.
PACKET_BYTES = 1024
#: A file that ends before this part of what it promised was cut short.
WHOLE = 0.9
#: Formats that hold one whole packet behind the other. What is between two of them and as long as
#: so many are on average is lost: it was to be media. (In others a packet may come after those that
#: lie within it, as in mpegts, or not tell where it lies, as in ogg: see `holes`.)
ONE_BY_ONE = ("matroska,webm", "flv", "mxf", "nut")
LOST_PACKETS = 16
#: Of a file, in which its outermost part states its size.
HEAD_BYTES = 4096

ENCRYPTED = "the pictures are encrypted (DRM) and only a decrypted copy can be sampled"


@dataclass(frozen=True)
class Header:
    """What a file says about itself before anything is decoded."""

    fps: float
    duration_seconds: float
    frame_count: int
    #: the file holds a count of its frames and shows them all; otherwise (mkv, webm, mpegts,
    #: fragmented mp4) it follows from time, or (mp4 with an edit list) only some of the frames
    #: counted are shown
    is_counted: bool


class OpenVideo:
    """An open container and its one stream of pictures, to be read once from the start (or again
    after `rewind`).

    `encryption`: of this file. Raises `VideoError`: empty_file, not_media, truncated, no_video,
    unsupported_codec, over_limits.
    """

    def __init__(self, file: ByteFile, encryption: Encryption) -> None:
        self.size_bytes = file.seek(0, os.SEEK_END)
        if not self.size_bytes:
            raise VideoError("empty_file", "the file has no bytes", stage=STAGE)
        self._encryption = encryption
        self._holes = holes_of(encryption.file)
        self._file = self._holes.file
        self._gaps = Gaps(self._holes)
        self._fragmented = is_fragmented(file)
        self._start()
        if not self.decoder.width:
            self._refuse_forgotten_size()

    def _start(self) -> None:
        self.container = open_container(self._file, self._fragmented)
        self.stream = picture_stream(self.container)
        self.decoder = self.stream.codec_context
        refuse_large(self.stream)
        self.decoder.thread_count = 1  # one process per core does better than threads within
        self.decoder.options = {"max_pixels": str(MAX_PIXELS)}
        self.codec: str = self.decoder.codec.canonical_name
        self._unit_seconds = float(self.stream.time_base or 0)
        self.start_seconds = (self.container.start_time or 0) / av.time_base
        #: from there to the end of the last packet of any stream, and whether the file has no more
        #: of them
        self.reached_seconds = 0.0
        self.at_end = False
        #: where in the file the first packet lies and the last one ends, and what is lost between
        self._first_byte = 0
        self.reached_bytes = 0
        self.lost_bytes = 0
        self._gaps.rewind()
        #: the demuxer ended with an error
        self.broke_off = False
        self._encryption.begin(self.stream)
        self._demuxed = self._demux()
        self._returned: list[Packet[Stream]] = []
        self._discard = Discard.default

    def _refuse_forgotten_size(self) -> None:
        """FFmpeg forgets a size above `max_pixels`: read what the container says of it, with no
        decoder open.
        """
        self.close()
        with closing(open_container(self._file, self._fragmented, decoders="none")) as unprobed:
            refuse_large(picture_stream(unprobed))
        self.rewind()

    def rewind(self) -> None:
        """Begin again with a fresh decoder."""
        self.close()
        self._start()

    def header(self) -> Header:
        """From what the file says, or, where it does not say how long or how fast it is, from
        counting.
        """
        stream, duration = self.stream, _duration_seconds(self.container, self.stream)
        fps = fps_of(stream.average_rate)  # `guessed_rate` may count fields
        if self._fragmented or duration is None or fps is None or self._is_untimed(fps):
            return self._counted_header(duration)
        frame_count = stream.frames if stream.frames > 0 else max(1, int(duration * fps))
        is_edited = self._is_mov and round(duration * fps) < stream.frames
        is_counted = stream.frames > 0 and not is_edited
        stated = Header(fps, duration, min(frame_count, MOST_FRAMES), is_counted)
        if self.container.format.name not in LOOSE_FORMATS or duration >= 2 * MAX_SECONDS:
            return stated
        counted = self._counted_header(duration)
        return counted if counted.duration_seconds >= WHOLE * duration else stated

    def recounted(self) -> Header:
        """For a file whose header is wrong: the same as if it had none, everything read again from
        the start.
        """
        self.rewind()
        return self._counted_header(None)

    @property
    def has_index(self) -> bool:
        """Whether the file says of each packet where it lies and whether it is a key frame."""
        return self._is_mov and not self._fragmented

    def read_only_key_frames(self) -> None:
        """Before the first of `packets`: leave out those that the index does not call key frames.
        The first ones may come nevertheless.
        """
        self._discard = Discard.nonkey

    def packets(self) -> Iterator[Packet[Stream]]:
        """The pictures' packets in file order. Damage that the demuxer cannot pass ends them."""
        returned, self._returned = self._returned, []
        return chain(returned, self._demuxed)

    def _demux(self) -> Iterator[Packet[Stream]]:
        # its index says where each packet is: the sound's bytes need not even be asked for
        if self._is_mov:
            for stream in self.container.streams:
                stream.discard = self._discard if stream.index == self.stream.index else Discard.all
        unit_seconds: dict[
            int, float
        ] = {}  # by stream: multiplying fractions takes longer than reading the packet
        try:
            for count, packet in enumerate(self.container.demux()):
                if count == MAX_PACKETS:
                    message = (
                        f"more than {MAX_PACKETS} packets before the last wanted frame; at most so "
                        "many are read"
                    )
                    raise VideoError("over_limits", message, stage=STAGE)
                if packet.pos is not None:
                    self._note_bytes(packet.pos, packet.size, count)
                if packet.pts is not None:
                    if packet.stream_index not in unit_seconds:
                        unit_seconds[packet.stream_index] = float(packet.time_base or 0)
                    end_seconds = (packet.pts + (packet.duration or 0)) * unit_seconds[
                        packet.stream_index
                    ]
                    self.reached_seconds = max(
                        self.reached_seconds, end_seconds - self.start_seconds
                    )
                if packet.size and packet.stream_index == self.stream.index:
                    self._gaps.see(packet, self._unit_seconds)
                    yield self._marked(packet)
        except IndexError:
            pass  # PyAV's own, at the end of an mpegts in which a stream appeared late
        except av.error.FFmpegError:
            self.broke_off = True
        self.at_end = True

    def _note_bytes(self, position: int, size: int, count: int) -> None:
        """Of a packet behind `count` others."""
        if not count:
            self._first_byte = self.reached_bytes = position
        gap_bytes = position - self.reached_bytes
        usual_bytes = (self.reached_bytes - self._first_byte) / max(1, count)
        if count >= LOST_PACKETS and gap_bytes > LOST_PACKETS * usual_bytes:
            self.lost_bytes += gap_bytes
        self.reached_bytes = max(self.reached_bytes, position + size)

    @property
    def lost_share(self) -> float:
        """The part of the bytes or seconds passed so far that was to be media and is none, where
        that can be told: a demuxer passes over it without a word.
        """
        name = self.container.format.name
        if name in ONE_BY_ONE:
            return self.lost_bytes / max(1, self.reached_bytes - self._first_byte)
        if name == self._holes.demuxer:
            return max(self._holes.lost_share(at_end=self.at_end), self._gaps.lost_share)
        return 0.0

    def _marked(self, packet: Packet[Stream]) -> Packet[Stream]:
        """The packet as its decoder is to have it, or marked as one that none can decode."""
        if not self._encryption.covers(packet):
            return self._encryption.unwrapped(packet)
        # a mark of its own, because PyAV forgets an object with the first packet that had it
        packet.opaque = object()
        return packet

    def refuse_encrypted(self, packet: Packet[Stream]) -> None:
        """`VideoError` (encrypted) for a packet that has to be decoded and cannot be without a
        key.
        """
        if packet.opaque is not None:
            seconds = 0.0 if packet.pts is None else self.seconds(packet.pts)
            raise VideoError("encrypted", f"{ENCRYPTED}, from {seconds:.1f} s on", stage=STAGE)

    def _counted_header(self, stated_seconds: float | None) -> Header:
        """The header of a file without one (fragmented, or a browser's recording): the packets of
        its first minute.

        They are kept for `packets`, or, if they are too large for that, read again.
        `duration_seconds` of a longer file is `stated_seconds`, or ends with that minute. Raises
        `VideoError`: undecodable (no packet), not_media (one picture).
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
            raise VideoError(
                "undecodable", "the file has a stream of pictures without a picture", stage=STAGE
            )
        if count == 1 and self.container.format.name in PICTURE_FORMATS:
            message = f"a {self.container.format.name} of one picture, and no video"
            raise VideoError("not_media", message, stage=STAGE)
        fps = self._measured_fps(seconds, count) if seconds else named_fps
        if count == 1:
            fps = 1 / self._shown_seconds(packet)
        duration = max(MAX_SECONDS, self._trusted(stated_seconds)) if is_longer else count / fps
        if kept_bytes > KEPT_BYTES:
            self.rewind()
        return Header(fps, duration, count, is_counted=False)

    def _is_untimed(self, fps: float) -> bool:
        """What FFmpeg says of length and rate is a guess, or the rate of a clock: of a flv that
        names none.
        """
        is_clock = not self.stream.frames and fps > MOST_CAMERA_FPS
        return is_clock or self.container.format.name in UNTIMED_FORMATS

    def _trusted(self, stated_seconds: float | None) -> float:
        name = self.container.format.name
        return (
            0.0
            if stated_seconds is None or self._fragmented or name in UNTIMED_FORMATS
            else stated_seconds
        )

    def _shown_seconds(self, only: Packet[Stream]) -> float:
        """How long the only picture of a file is shown."""
        stated = self.container.duration or 0
        seconds = (only.duration or 0) * self._unit_seconds or stated / av.time_base
        return min(seconds, LONGEST_SECONDS) if seconds > 0 else 1.0

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


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return min(seconds, LONGEST_SECONDS) if seconds > 0 else None


def is_whole(file: ByteFile) -> bool:
    """Whether a mkv, webm or avi has all the bytes that it says it has. False where it does not say
    so, too.

    Then what its header says of length or frames is wrong, if media fill it and are shorter.
    """
    end = file.seek(0, os.SEEK_END)
    data = read_at(file, 0, HEAD_BYTES)
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") <= end
    if data.startswith(ebml.EBML):
        header = ebml.head(data)
        start = header.bytes + header.size if header and header.size is not None else len(data)
        segment = ebml.head(data[start : start + ebml.HEAD_BYTES])
        return bool(
            segment and segment.size is not None and start + segment.bytes + segment.size <= end
        )
    return False
