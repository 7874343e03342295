"""Decoding only what the wanted frames need, bit-identical to decoding everything.

The file is read once: packets are kept until a few megabytes hold a whole GOP, their presentation
times are sorted (the n-th time is the n-th frame), and only then is decoded what is needed;
pictures that nobody wants and none refers to are left to the decoder's own skipping. Meanwhile the
worker reads on. Where a file does not keep the rules this rests on, `OutOfStepError` says so, and
everything has to be decoded instead.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import av
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from workers.sampling.inside.av1 import Av1Reader, UnusualError
from workers.sampling.inside.container import PACKET_BYTES, OpenVideo
from workers.sampling.inside.formats import INTRA_CODECS
from workers.sampling.inside.frame_buffer import FrameBuffer
from workers.sampling.inside.gops import needed
from workers.sampling.inside.nal import NalReader

#: So much is gathered before whole GOPs are decoded; and more than this of an unfinished GOP is not
#: kept.
GATHERED_BYTES = 1 << 20
KEPT_BYTES = 32 << 20
#: A packet is stored at most this far from its place in presentation order; H.264 and HEVC allow
#: 16.
REORDER_PACKETS = 32
#: Codecs with exactly one shown frame per packet. VP8 hides frames; MPEG-4 and MPEG-2 join, drop
#: and split them.
CODECS = ("h264", "hevc", "vp9", "av1", *INTRA_CODECS)
#: Those whose decoders can be told to skip a picture while they run.
SKIPPING_CODECS = ("h264", "hevc", "vp9")
#: FFmpeg's AVFieldOrder: unknown and progressive. Interlaced frames may come as two packets.
_PROGRESSIVE = (0, 1)


class OutOfStepError(Exception):
    """The n-th packet time of this file is not the time of its n-th frame, or its packets hide what
    they depend on.
    """


class Decoding:
    """A video's decoder with a count of what went in and came out."""

    def __init__(self, video: OpenVideo) -> None:
        self.video = video
        self.packets = 0
        self.frames = 0
        self.errors = 0
        #: Errors from the file's first key frame on; before it nothing can be decoded, and no
        #: player does.
        self.lost = 0
        self._has_started = False

    def decode(self, packet: Packet[Stream] | None) -> list[VideoFrame]:
        """The frames that a packet (None: the end) brings out; one that cannot be decoded is
        counted, not raised.
        """
        self._has_started |= packet is None or packet.is_keyframe
        try:
            frames = list(self.video.decoder.decode(packet))
        except MemoryError:
            raise
        except av.error.FFmpegError:
            self.errors += 1
            self.lost += self._has_started
            return []
        self.frames += len(frames)
        return frames


@dataclass(frozen=True, eq=False)
class Piece:
    """What can be decoded or left out: a packet, or, where `part` says so, these bytes of one.

    `time`: presentation time if it is shown. `refers`: how many pieces back those lie that it
    refers to; None: it does not say.
    """

    packet: Packet[Stream]
    time: int | None
    starts_anew: bool
    refers: set[int] | None
    part: slice | None = None


class SparsePass:
    """One reading of a video into a buffer."""

    def __init__(self, decoding: Decoding, buffer: FrameBuffer) -> None:
        video = decoding.video
        refuse_unsteady(video)
        self._decoding = decoding
        self._shelf = buffer
        self._nals = (
            NalReader(video.codec, video.decoder.extradata)
            if video.codec in ("h264", "hevc")
            else None
        )
        self._skips = video.codec in SKIPPING_CODECS
        self._av1 = Av1Reader() if video.codec == "av1" else None
        self._kept: list[Piece] = []
        self._kept_bytes = 0
        self._times: list[int] = []  # of all shown packets so far
        self._start_time: int | None = None  # of the first key frame
        self._shown: int | None = None  # time of the last frame that came out

    def run(self) -> None:
        """Fill the buffer. Raises `OutOfStepError`; packets that cannot be decoded are counted, not
        raised.
        """
        for packet in self._decoding.video.packets():
            self._keep(packet)
            if len(self._times) > self._shelf.last + REORDER_PACKETS:
                break
            if self._kept_bytes > GATHERED_BYTES:
                self._decode_certain()
        self._shelf.clip(max(1, len(self._times)))
        self._decode(len(self._kept), complete=True)
        if self._shelf.missing:
            self._receive(None)
        if self._start_time is not None:
            self._shelf.before_start = bisect_left(self._times, self._start_time)
        if self._shelf.missing and not self._decoding.errors:
            raise OutOfStepError(f"frames {sorted(self._shelf.missing)[:4]} did not come out")

    def _keep(self, packet: Packet[Stream]) -> None:
        self._kept += self._pieces(packet)
        self._kept_bytes += packet.size + PACKET_BYTES
        self._decoding.packets += 1
        if packet.is_keyframe and self._start_time is None:
            self._start_time = packet.pts
        if packet.is_discard:  # before the cut of an edit list: decoded, never shown
            return
        if packet.pts is None:
            raise OutOfStepError("a packet without presentation time")
        self._times.append(packet.pts)

    def _pieces(self, packet: Packet[Stream]) -> list[Piece]:
        time = None if packet.is_discard else packet.pts
        if self._av1:
            try:
                frames = self._av1.look(memoryview(packet))
            except UnusualError:
                self._av1 = None
            else:
                return [
                    Piece(
                        packet,
                        time if frame.is_shown else None,
                        frame.starts_anew and not frame.start,
                        frame.refers,
                        slice(frame.start, frame.stop),
                    )
                    for frame in frames
                ]
        if not self._nals:
            return [Piece(packet, time, packet.is_keyframe, None)]
        piece = self._nals.first_slice(packet)
        if piece and piece.temporal_layer:
            # "no reference" then only means: not for pictures of the same layer
            self._skips = False
        return [Piece(packet, time, bool(piece and piece.starts_anew), None)]

    def _decode_certain(self) -> None:
        """Decode what no later packet can change: up to the last whole GOP, or, if too much is
        kept, within it.
        """
        certain = max(0, len(self._kept) - REORDER_PACKETS)
        cut = max((at for at in range(1, certain + 1) if self._kept[at].starts_anew), default=0)
        if not cut and self._kept_bytes > KEPT_BYTES:
            cut = certain
        if cut:
            self._decode(cut, complete=False)
            del self._kept[:cut]
            self._kept_bytes = sum(
                packet.size + PACKET_BYTES for packet, _ in self._packets(self._kept)
            )

    def _decode(self, cut: int, *, complete: bool) -> None:
        """Decode what is needed of the first `cut` pieces."""
        self._times.sort()
        refuse_equal(self._times)
        wanted = {
            self._times[position] for position in self._shelf.missing if position < len(self._times)
        }
        flags = needed(self._kept, wanted, complete=complete)
        chosen = [piece for piece, flag in zip(self._kept[:cut], flags, strict=False) if flag]
        decoder = self._decoding.video.decoder
        for packet, pieces in self._packets(chosen):
            self._decoding.video.refuse_encrypted(packet)
            decoder.skip_frame = (
                "NONREF" if self._skips and pieces[-1].time not in wanted else "DEFAULT"
            )
            self._receive(_only(packet, pieces))
            if not self._shelf.missing:
                return

    @staticmethod
    def _packets(pieces: list[Piece]) -> Iterator[tuple[Packet[Stream], list[Piece]]]:
        """Pieces by packet."""
        return (
            (group[0].packet, group)
            for _, each in groupby(pieces, lambda piece: id(piece.packet))
            if (group := list(each))
        )

    def _receive(self, packet: Packet[Stream] | None) -> None:
        for frame in self._decoding.decode(packet):
            if frame.pts is None or (self._shown is not None and frame.pts <= self._shown):
                raise OutOfStepError(
                    "frames come out of the decoder in another order than their times"
                )
            self._shown = frame.pts
            position = bisect_left(self._times, frame.pts)
            if position < len(self._times) and self._times[position] == frame.pts:
                self._shelf.take(position, frame)


def refuse_unsteady(video: OpenVideo) -> None:
    """`OutOfStepError` for a codec whose packets may hold more or less than one frame."""
    if video.codec not in CODECS or (
        video.codec == "h264" and video.decoder.field_order not in _PROGRESSIVE
    ):
        raise OutOfStepError(f"{video.codec}, field order {video.decoder.field_order}")


def refuse_equal(times: list[int]) -> None:
    """`OutOfStepError` if two of the sorted times are equal."""
    if any(one == other for one, other in pairwise(times)):
        raise OutOfStepError("two packets with one presentation time")


def _only(packet: Packet[Stream], pieces: list[Piece]) -> Packet[Stream]:
    """A packet with these pieces of it alone."""
    parts = [piece.part for piece in pieces if piece.part]
    if sum(part.stop - part.start for part in parts) in (0, packet.size):
        return packet
    data = memoryview(packet)
    less: Packet[Stream] = Packet(b"".join(data[part] for part in parts))
    less.pts, less.dts, less.time_base = packet.pts, packet.dts, packet.time_base
    return less
