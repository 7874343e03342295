"""What a packet of AV1 says in the clear: where decoding starts anew, the frames in it, and what
each refers to.

Every frame of AV1 names the slots it refers to and those it is kept in; everything it inherits
(pixels, motion, adapted probabilities, segments, film grain) comes through them. So what a wanted
frame needs can be followed exactly. A packet shows one frame and may bring others, shown later or
never. Source: AV1 Bitstream & Decoding Process Specification, 5.3 (OBUs), 5.5.1 (sequence header),
5.9.2 (frame header).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from workers.sampling.inside.bits import BitReader

_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME = 1, 3, 4, 6
_KEY_FRAME, _INTRA_ONLY_FRAME, _SWITCH_FRAME = 0, 2, 3
_SLOTS = 8
_ALL_SLOTS = (1 << _SLOTS) - 1
#: A sequence or frame says for each frame what this otherwise says for all.
_SELECT = 2
#: More than the part of a frame header that is read here.
_HEADER_BYTES = 64


class UnusualError(Exception):
    """A header uses what is not followed here: scalability, decoder models, still pictures, or it
    is damaged.
    """


@dataclass(frozen=True)
class _Sequence:
    id_bits: int
    delta_id_bits: int
    order_bits: int
    screen_content_tools: int
    integer_mv: int


class Frame(NamedTuple):
    """One frame: its bytes are `start:stop` of the packet. `refers`: how many frames back those lie
    that it refers to.
    """

    start: int
    stop: int
    is_shown: bool
    starts_anew: bool
    refers: set[int]


class Av1Reader:
    """Follows one stream, packet by packet from its start."""

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._slots: list[int | None] = [None] * _SLOTS  # number of the frame that last wrote it
        self._is_key = [False] * _SLOTS
        self._number = -1  # of the frame that is looked at
        self._sequence_number = 0  # of the frame that came with the sequence header

    def look(self, packet: bytes | memoryview) -> list[Frame]:
        """The frames of a packet; together they are all of its bytes. Raises `UnusualError`."""
        frames: list[Frame] = []
        begin = 0  # of the next frame: what comes before and after its header goes with it
        try:
            for kind, content, end in _units(packet):
                if kind == _SEQUENCE_HEADER:
                    self._sequence, self._sequence_number = (
                        _sequence(BitReader(content)),
                        self._number + 1,
                    )
                elif kind in (_FRAME_HEADER, _FRAME):
                    self._number += 1
                    is_shown, starts_anew, referred = self._frame(
                        BitReader(content[:_HEADER_BYTES])
                    )
                    refers = {
                        self._number - number for number in referred if number != self._number
                    }
                    frames.append(Frame(begin, end, is_shown, starts_anew, refers))
                    begin = end
                elif kind == _TILE_GROUP:
                    frames[-1] = frames[-1]._replace(stop=end)
                    begin = end
        except (EOFError, IndexError) as error:
            raise UnusualError("a header that ends early") from error
        if not frames or sum(frame.is_shown for frame in frames) != 1:
            raise UnusualError("a packet that does not show one frame")
        frames[-1] = frames[-1]._replace(stop=len(packet))
        return frames

    def _frame(self, bits: BitReader) -> tuple[bool, bool, set[int]]:
        """One frame header: whether it is shown, whether decoding can start with it, the frames it
        refers to.

        Notes in which slots it is kept.
        """
        sequence = self._sequence
        if sequence is None:
            raise UnusualError("a frame before the sequence header")
        referred = {self._sequence_number}
        if bits.take(1):  # show_existing_frame
            slot = bits.take(3)
            self._refer(slot, referred)
            if self._is_key[slot]:  # a key frame is kept everywhere when it is shown
                self._keep(_ALL_SLOTS, is_key=True)
            return True, False, referred
        kind, shown = bits.take(2), bits.take(1)
        if not shown:
            bits.take(1)  # showable_frame
        starts = kind == _KEY_FRAME and bool(shown)
        resilient = starts or kind == _SWITCH_FRAME or bool(bits.take(1))
        bits.take(1)  # disable_cdf_update
        tools = (
            bits.take(1)
            if sequence.screen_content_tools == _SELECT
            else sequence.screen_content_tools
        )
        if tools and sequence.integer_mv == _SELECT:
            bits.take(1)
        bits.take(sequence.id_bits)
        if kind != _SWITCH_FRAME:
            bits.take(1)  # frame_size_override_flag
        bits.take(sequence.order_bits)
        is_intra = kind in (_KEY_FRAME, _INTRA_ONLY_FRAME)
        if not is_intra and not resilient:
            bits.take(3)  # primary_ref_frame: one of those referred to
        kept = _ALL_SLOTS if starts or kind == _SWITCH_FRAME else bits.take(_SLOTS)
        if resilient and sequence.order_bits and (not is_intra or kept != _ALL_SLOTS):
            bits.take(_SLOTS * sequence.order_bits)  # ref_order_hint
        if not is_intra:
            # frame_refs_short_signaling: any, depending on their order
            if sequence.order_bits and bits.take(1):
                slots = list(range(_SLOTS))
            else:
                slots = [
                    bits.take(3 + sequence.delta_id_bits) >> sequence.delta_id_bits
                    for _ in range(7)
                ]
            for slot in slots:
                self._refer(slot, referred)
        self._keep(kept, is_key=kind == _KEY_FRAME)
        return bool(shown), starts, referred

    def _refer(self, slot: int, referred: set[int]) -> None:
        number = self._slots[slot]
        if number is not None:
            referred.add(number)

    def _keep(self, slots: int, *, is_key: bool) -> None:
        for slot in range(_SLOTS):
            if slots >> slot & 1:
                self._slots[slot], self._is_key[slot] = self._number, is_key


def _units(data: bytes | memoryview) -> Iterator[tuple[int, bytes | memoryview, int]]:
    """Type and content of each OBU, and where it ends."""
    position = 0
    while position < len(data):
        head = data[position]
        if head & 0b100:
            raise UnusualError("layers")
        position += 1
        size = len(data) - position
        if head & 0b10:
            size = shift = 0
            while True:
                byte = data[position]
                position += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
        content = data[position : position + size]
        position += size
        yield head >> 3 & 0xF, content, min(position, len(data))


def _sequence(bits: BitReader) -> _Sequence:
    bits.take(3)  # seq_profile
    if bits.take(2):
        raise UnusualError("a still picture")
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):  # equal_picture_interval: a number in uvlc
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(zeros)
        if bits.take(1):
            raise UnusualError("a decoder model")
    delays = bits.take(1)
    if bits.take(5) or bits.take(12):
        raise UnusualError("operating points")
    if bits.take(5) > 7:  # seq_level_idx
        bits.take(1)
    if delays and bits.take(1):
        bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width_bits + height_bits)
    id_bits = delta_id_bits = 0
    if bits.take(1):  # frame_id_numbers_present_flag
        delta_id_bits = bits.take(4) + 2
        id_bits = delta_id_bits + bits.take(3) + 1
    bits.take(7)  # superblock size, intra tools, inter tools up to enable_dual_filter
    has_order = bits.take(1)
    if has_order:
        bits.take(2)
    tools = _SELECT if bits.take(1) else bits.take(1)
    integer_mv = _SELECT
    if tools and not bits.take(1):
        integer_mv = bits.take(1)
    return _Sequence(
        id_bits, delta_id_bits, bits.take(3) + 1 if has_order else 0, tools, integer_mv
    )
