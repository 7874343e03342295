"""AV1's headers, written bit by bit after the specification: what refers to what, and what is too
unusual to follow.
"""

from __future__ import annotations

from typing import Any

import pytest

from workers.sampling.inside.av1 import Av1Reader, Frame, UnusualError

SEQUENCE, FRAME_HEADER, TILE_GROUP, FRAME = 1, 3, 4, 6
KEY, INTER, INTRA_ONLY, SWITCH = range(4)


def unit(kind: int, *fields: str, layered: bool = False) -> bytes:
    """An OBU of these bits, padded with ones: what is read too far is noticed."""
    bits = "".join(fields).replace(" ", "")
    content = (
        bytes(int(bits[at : at + 8].ljust(8, "1"), 2) for at in range(0, len(bits), 8))
        + b"\xff" * 4
    )
    return bytes([kind << 3 | layered << 2 | 2, *([0] if layered else []), len(content)]) + content


def bits(number: int, count: int) -> str:
    return f"{number:0{count}b}" if count else ""


def sequence(
    *,
    still: int = 0,
    timing: str = "0",
    points: int = 0,
    ids: str = "0",
    order_bits: int = 5,
    tools: str = "1",
) -> bytes:
    """`tools`: seq_choose_screen_content_tools and what follows it, up to the choice of whole
    motion vectors.
    """
    order = (
        f"1 00 {tools} {'1' if tools == '1' else ''} {bits(order_bits - 1, 3)}"
        if order_bits
        else f"0 {tools} 1"
    )
    return unit(
        SEQUENCE,
        f"000 {still}0 {timing} 0 {bits(points, 5)} {bits(0, 12)} 01000 0",  # level 8 has a tier
        f"0111 0111 {bits(95, 8)} {bits(63, 8)} {ids} 000 0000 {order}",
    )


def frame(
    kind: int = INTER,
    *,
    keeps: int = 0,
    refers: list[int] | None = None,
    shown: bool = True,
    resilient: bool = False,
    order_bits: int = 5,
    short: bool = False,
    id_bits: int = 0,
    delta_bits: int = 0,
) -> bytes:
    fields = ["0", bits(kind, 2), str(int(shown)), "" if shown else "1"]
    if not (kind == SWITCH or (kind == KEY and shown)):
        fields.append(str(int(resilient)))
    fields += [
        "0",
        "0",
        bits(0, id_bits),
        "" if kind == SWITCH else "0",
        bits(3, order_bits),
    ]  # no screen content tools
    resilient |= kind == SWITCH or (kind == KEY and shown)
    if kind in (INTER, SWITCH) and not resilient:
        fields.append("000")
    if not (kind == SWITCH or (kind == KEY and shown)):
        fields.append(bits(keeps, 8))
    if resilient and order_bits and not (kind == KEY and shown):
        fields.append(bits(0, 8 * order_bits))
    if kind in (INTER, SWITCH):
        fields.append(str(int(short)) if order_bits else "")
        fields += [
            bits(slot, 3) + bits(0, delta_bits) for slot in ([] if short else refers or [0] * 7)
        ]
    return unit(FRAME, *fields)


def again(slot: int) -> bytes:
    """show_existing_frame"""
    return unit(FRAME_HEADER, "1", bits(slot, 3))


KEY_PACKET = sequence() + frame(KEY)


def looked(*packets: bytes) -> list[list[Frame]]:
    reader = Av1Reader()
    return [reader.look(packet) for packet in packets]


def refers(*packets: bytes) -> list[set[int]]:
    """How far back each frame refers, without the sequence header, which all refer to."""
    frames = [frame for packet in looked(*packets) for frame in packet]
    return [frame.refers - {at} for at, frame in enumerate(frames)]


def test_a_key_frame_starts_anew_and_is_kept_everywhere() -> None:
    frames = [frame for (frame,) in looked(KEY_PACKET, frame(refers=[7] * 7), KEY_PACKET, frame())]
    assert [frame.starts_anew for frame in frames] == [True, False, True, False]
    assert [frame.refers for frame in frames] == [set(), {1}, set(), {1}]


def test_frames_refer_to_what_the_slots_hold() -> None:
    packets = [
        KEY_PACKET,
        frame(keeps=0b10),
        frame(keeps=0b100),
        frame(refers=[1, 1, 1, 1, 1, 1, 2]),
        frame(),
    ]
    assert refers(*packets) == [set(), set(), set(), {1, 2}, set()]
    assert looked(*packets)[3][0].refers == {1, 2, 3}  # the sequence header came with the first


def test_each_frame_of_a_packet_has_its_part_of_it() -> None:
    hidden, shown = frame(keeps=0b1000, refers=[1] * 7, shown=False), frame(refers=[3] * 7)
    packets = [KEY_PACKET, frame(keeps=0b10), hidden + shown, again(3), frame(refers=[3] * 7)]
    assert refers(*packets) == [set(), set(), {1}, {1}, {2}, {3}]
    parts = looked(*packets)[2]
    assert [(part.start, part.stop, part.is_shown) for part in parts] == [
        (0, len(hidden), False),
        (len(hidden), len(hidden + shown), True),
    ]


def test_what_is_no_frame_goes_with_one() -> None:
    delimiter, tiles, metadata = unit(2), unit(TILE_GROUP, "0"), unit(5, "0")
    header = unit(FRAME_HEADER, "0 01 0 1 0 0 0 0 00011 000 00000010 0" + "000" * 7)  # hidden
    first, second = delimiter + header + tiles + tiles, metadata + again(1) + metadata
    parts = looked(KEY_PACKET, first + second)[1]
    assert [(part.start, part.stop) for part in parts] == [
        (0, len(first)),
        (len(first), len(first + second)),
    ]


def test_a_hidden_key_frame_is_kept_everywhere_once_it_is_shown() -> None:
    packets = [
        KEY_PACKET,
        frame(KEY, keeps=0b1000, shown=False) + frame(),
        again(3),
        frame(refers=[6] * 7),
        again(0),
    ]
    assert refers(*packets) == [set(), set(), set(), {2}, {1}, {2}]
    assert not any(part.starts_anew for packet in looked(*packets)[1:] for part in packet)


@pytest.mark.parametrize(("keeps", "expected"), [(0xFE, set()), (0xFD, {1})])
def test_intra_frames_refer_to_nothing(keeps: int, expected: set[int]) -> None:
    packets = [
        KEY_PACKET,
        frame(INTRA_ONLY, keeps=keeps, resilient=keeps == 0xFE),
        frame(refers=[0] * 7),
    ]
    assert refers(*packets) == [set(), set(), expected]


def test_a_switch_frame_is_kept_everywhere() -> None:
    assert refers(KEY_PACKET, frame(SWITCH), frame(refers=[5] * 7)) == [set(), set(), {1}]


def test_resilient_frames_and_short_signalling() -> None:
    packets = [
        KEY_PACKET,
        frame(keeps=0b10, resilient=True),
        frame(short=True),
        frame(refers=[1] * 7),
    ]
    assert refers(*packets) == [set(), set(), {1}, {2}]


def test_frame_numbers_and_no_order_hints() -> None:
    head = sequence(ids=f"1 {bits(3, 4)} {bits(2, 3)}", order_bits=0)
    options: dict[str, Any] = {"order_bits": 0, "id_bits": 8, "delta_bits": 5}
    packets = [
        head + frame(KEY, order_bits=0, id_bits=8),
        frame(keeps=0b100, **options),
        frame(refers=[2, 0, 0, 0, 0, 0, 0], **options),
        frame(refers=[0] * 6 + [2], **options),
    ]
    assert refers(*packets) == [set(), set(), {1}, {2}]


@pytest.mark.parametrize(
    "timing", ["1" + bits(1, 32) + bits(25, 32) + "0 0", "1" + bits(1, 64) + "1 001 01 0"]
)
def test_timing_is_passed_over(timing: str) -> None:
    assert looked(sequence(timing=timing) + frame(KEY), frame(refers=[4] * 7))[1][0].refers == {1}


@pytest.mark.parametrize(
    "packet",
    [
        frame(KEY),
        sequence(still=1),
        sequence(points=1),
        sequence(timing="1" + bits(1, 64) + "0 1"),
        unit(SEQUENCE, "000", layered=True),
        KEY_PACKET[:2],
        bytes([FRAME << 3 | 2]),
        sequence() + bytes([FRAME << 3 | 2, 0]),
        sequence(),
        KEY_PACKET + frame(shown=False) + frame() + frame(),
    ],
    ids=[
        "no sequence",
        "still",
        "scalable",
        "decoder model",
        "layers",
        "cut sequence",
        "cut size",
        "empty frame",
        "no frame",
        "two shown",
    ],
)
def test_what_is_not_followed_says_so(packet: bytes) -> None:
    with pytest.raises(UnusualError):
        looked(packet)
