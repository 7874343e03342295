"""Decoding key frames alone: for each wanted position the nearest one.

A key frame refers to no other, so each is decoded by itself, in a decoder that knows nothing else:
the picture is the same, bit by bit, as when everything is decoded. Which packets are key frames is
read in the packets themselves where a codec says it there, because containers are wrong about it
and also mark pictures of a gradual refresh. Where a file does not keep the rules this rests on,
`OutOfStepError` says so, and the next slower way is tried.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Literal, NamedTuple

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from workers.sampling.inside.av1 import Av1Reader, UnusualError
from workers.sampling.inside.container import LONGEST_SECONDS
from workers.sampling.inside.formats import INTRA_CODECS
from workers.sampling.inside.frame_buffer import FrameBuffer
from workers.sampling.inside.nal import NalReader
from workers.sampling.inside.sparse import (
    REORDER_PACKETS,
    Decoding,
    OutOfStepError,
    SparsePass,
    refuse_equal,
    refuse_unsteady,
)
from workers.sampling.inside.vp9 import is_shown_key_frame
from workers.sampling.plan import nearest

#: Of a key frame: whether pictures that come later in the file may be shown before it.
Kind = Literal["closed", "open"] | None


class _Waiting(NamedTuple):
    """A key frame whose position is not known before more of the file is: `number` in the file."""

    number: int
    time: int
    packet: Packet[Stream]


def from_index(decoding: Decoding, buffer: FrameBuffer) -> None:
    """By the index of an mp4: only its key frames are read. Raises `OutOfStepError` where it does
    not say the positions of the key frames, or not of all.
    """
    if decoding.video.codec in INTRA_CODECS:  # each frame is a key frame, and the nearest one
        SparsePass(decoding, buffer).run()
        return
    _decode(decoding, buffer, _indexed(decoding, buffer.last))
    if decoding.video.broke_off or decoding.errors:
        raise OutOfStepError("a key frame that cannot be read or decoded")


def from_packets(decoding: Decoding, buffer: FrameBuffer) -> None:
    """By the packets, all of which are read. Raises `OutOfStepError`."""
    _decode(decoding, buffer, _counted(decoding, buffer.last))


def from_frames(decoding: Decoding, buffer: FrameBuffer) -> None:
    """By what the decoder calls a key frame, everything decoded. Raises `OutOfStepError` if it
    calls none so, as those of some old codecs.
    """
    for position, frame, slots in nearest(buffer.forget(), _shown(decoding, buffer.last)):
        buffer.move(slots, position)
        buffer.take(position, frame)
    if not buffer.wanted:
        raise OutOfStepError("no key frame")


def _decode(
    decoding: Decoding, buffer: FrameBuffer, keys: Iterable[tuple[int, Packet[Stream]]]
) -> None:
    """Each key frame that is the nearest of some position, by itself."""
    decoder = decoding.video.decoder
    for position, packet, slots in nearest(buffer.forget(), keys):
        decoding.video.refuse_encrypted(packet)
        buffer.move(slots, position)
        errors = decoding.errors
        frames = [*decoding.decode(packet), *decoding.decode(None)]
        decoder.flush_buffers()
        if len(frames) == 1 and frames[0].key_frame and frames[0].pts == packet.pts:
            buffer.take(position, frames[0])
        elif decoding.errors == errors:
            raise OutOfStepError(f"the key frame at {position} is none for the decoder")
    if not buffer.wanted:
        raise OutOfStepError("no key frame")


def _indexed(decoding: Decoding, last: int) -> Iterator[tuple[int, Packet[Stream]]]:
    """Position and packet of each key frame. It is the packet's number in the file, because every
    packet before a key frame without leading pictures is shown before it.
    """
    video = decoding.video
    refuse_unsteady(video)
    entries = list(islice(video.stream.index_entries, 2 * last + 2)) if video.has_index else []
    numbers = {entry.pos: number for number, entry in enumerate(entries)}
    if not entries or any(entry.is_discard for entry in entries) or len(numbers) < len(entries):
        raise OutOfStepError("no index, or an edit list")
    if any(entry.pos + entry.size > video.size_bytes for entry in entries[: last + 1]):
        raise OutOfStepError("the file ends before its index does")
    kind_of = _kind_reader(decoding)
    video.read_only_key_frames()
    key = -1
    for packet in video.packets():
        number = numbers.get(packet.pos or 0)
        if number is None or number > _bound(last, key):
            break
        decoding.packets = number + 1
        if not entries[number].is_keyframe:  # read while FFmpeg probed the file
            continue
        if kind_of(packet) != "closed":
            raise OutOfStepError("a key frame that may have leading pictures, or is none")
        key = number
        yield key, packet
    decoding.packets = len(entries)
    video.reached_seconds = LONGEST_SECONDS  # nothing is missing: so the index says


def _counted(decoding: Decoding, last: int) -> Iterator[tuple[int, Packet[Stream]]]:
    """Position and packet of each key frame: the n-th presentation time is the n-th frame."""
    refuse_unsteady(decoding.video)
    kind_of, times, waiting = _kind_reader(decoding), list[int](), deque[_Waiting]()
    key, is_reordered = -1, not decoding.video.decoder.has_b_frames
    for packet in decoding.video.packets():
        decoding.packets += 1
        kind = kind_of(packet)
        if packet.is_discard:  # before the cut of an edit list
            continue
        if packet.pts is None:
            raise OutOfStepError("a packet without presentation time")
        is_reordered |= bool(times) and packet.pts < times[-1]
        insort(times, packet.pts)
        if kind == "open" and key >= 0 and not is_reordered:
            raise OutOfStepError("the times may be those of decoding")
        if kind:
            waiting.append(_Waiting(decoding.packets, packet.pts, packet))
        if waiting and decoding.packets > waiting[0].number + REORDER_PACKETS:
            key = bisect_left(times, waiting[0].time)
            yield key, waiting.popleft().packet
        if decoding.packets > _bound(last, key) + REORDER_PACKETS:
            break
    refuse_equal(times)
    for one in waiting:
        yield bisect_left(times, one.time), one.packet


def _shown(decoding: Decoding, last: int) -> Iterator[tuple[int, VideoFrame]]:
    """Position and picture of each key frame of everything that is decoded."""
    key = -1
    for packet in chain(decoding.video.packets(), [None]):
        if packet is not None:
            decoding.packets += 1
            decoding.video.refuse_encrypted(packet)
        position = decoding.frames
        for frame in decoding.decode(packet):
            if frame.key_frame:
                key = position
                yield key, frame
            position += 1
        if position > _bound(last, key):
            return


def _bound(last: int, key: int) -> int:
    """Behind this position no key frame can be nearer to the `last` wanted than `key` is."""
    return 2 * last - key if key >= 0 else 2 * last


def _kind_reader(decoding: Decoding) -> Callable[[Packet[Stream]], Kind]:
    """What says of each packet, asked in turn, what kind of key frame it is, if it is one."""
    codec = decoding.video.codec
    if codec in ("h264", "hevc"):
        reader = NalReader(codec, decoding.video.decoder.extradata)

        def by_slice(packet: Packet[Stream]) -> Kind:
            piece = reader.first_slice(packet)
            if piece is None:
                return None
            if piece.is_closed:
                return "closed"
            is_key = piece.starts_anew or (packet.is_keyframe and reader.is_intra(packet))
            return "open" if is_key else None

        return by_slice
    if codec == "vp9":
        return lambda packet: "closed" if is_shown_key_frame(packet) else None
    if codec == "av1":
        return _av1_kinds(Av1Reader())
    raise OutOfStepError(f"packets of {codec} do not say whether they are key frames")


def _av1_kinds(reader: Av1Reader) -> Callable[[Packet[Stream]], Kind]:
    def by_frame(packet: Packet[Stream]) -> Kind:
        try:
            first = reader.look(memoryview(packet))[0]
        except UnusualError as error:
            raise OutOfStepError(f"an AV1 packet with {error}") from error
        # what is referred to besides is the sequence header, if it is in an earlier packet
        return "closed" if first.is_shown and first.starts_anew and not first.refers else None

    return by_frame
