"""Damages video files, in the same way for the same seed.

`python -m tests.mutator SEED OUT_FILE` writes the file that a fuzz test named by its seed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.trees import Node, Ts, format_of, walk

#: Where headers and indices lie.
HEADER_BYTES = 4096
#: Parts repeated within parts grow fast; hostility does not need size.
MAX_BYTES = 4 << 20
#: What makes arithmetic overflow, tables endless and clocks stand.
EXTREMES = (
    *(0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFF0000),
    *(-1, -2, 1 << 62, -(1 << 63)),
)
#: Small parts full of numbers.
NUMBERS = (
    *(
        b"mvhd",
        b"tkhd",
        b"mdhd",
        b"elst",
        b"stts",
        b"ctts",
        b"stss",
        b"stsc",
        b"stsz",
        b"stco",
        b"co64",
        b"sdtp",
    ),
    *(b"mfhd", b"tfhd", b"tfdt", b"trun", b"trex", b"tfra", b"stsd", b"dref", b"hdlr"),
    *(b"avc1", b"hev1", b"av01", b"apch", b"mp4a", b"avih", b"strh", b"strf", b"idx1"),
)
#: What decoders are set up with: boxes, mkv's CodecPrivate, avi's strf.
CONFIGURATIONS = (b"avcC", b"hvcC", b"av1C", b"vpcC", b"esds", b"\x63\xa2", b"strf")
#: Names of codecs in mp4, in avi and in mkv.
CODEC_NAMES = (
    (b"avc1", b"hev1", b"vp09", b"av01", b"mp4v", b"apch", b"jpeg"),
    (
        b"FMP4",
        b"MJPG",
        b"H264",
        b"HEVC",
        b"VP80",
        b"cvid",
        b"MP42",
        b"DIV3",
        b"IV50",
        b"HFYU",
        b"ULY0",
        b"WMV2",
        b"MSVC",
    ),
    (
        *(b"V_MPEGH/ISO/HEVC", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ASP"),
        *(b"V_PRORES", b"V_MJPEG", b"V_VP8", b"V_VP9", b"V_AV1"),
    ),
)


class Mutant(NamedTuple):
    """A damaged file and the names of what was done to it, in order."""

    data: bytes
    story: tuple[str, ...]


def mutated(data: bytes, donor: bytes, seed: int) -> Mutant:
    """`data` after one to three mutations; some take bytes from `donor`. The same arguments give
    the same file anywhere.
    """
    dice, story = Random(seed), []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        changed = data
        while data and changed == data:  # a mutation may not fit a file, or change nothing
            name = dice.choice(list(MUTATIONS))
            changed = MUTATIONS[name](data, donor, dice)
            if len(changed) > MAX_BYTES:
                changed = data
            elif changed != data:
                story.append(name)
        data = changed
    return Mutant(data, tuple(story))


def _stretch(data: bytes, dice: Random) -> tuple[int, int]:
    """Start and end of some bytes."""
    length = _length(len(data), dice)
    start = dice.randint(0, len(data) - length)
    return start, start + length


def _length(most: int, dice: Random) -> int:
    """1 to `most`: of few digits as likely as of many."""
    return dice.randint(1, min(most, 1 << dice.randint(0, most.bit_length())))


# Of bytes


def _flip(data: bytes, dice: Random, start: int, end: int) -> bytes:
    flipped = bytearray(data)
    for _ in range(dice.choice((1, 10, 1000))):
        flipped[dice.randrange(start, end)] ^= 1 << dice.randrange(8)
    return bytes(flipped)


def flip_bits(data: bytes, donor: bytes, dice: Random) -> bytes:
    return _flip(data, dice, 0, len(data))


def flip_bits_of_header(data: bytes, donor: bytes, dice: Random) -> bytes:
    return _flip(data, dice, 0, min(HEADER_BYTES, len(data)))


def flip_bits_of_end(data: bytes, donor: bytes, dice: Random) -> bytes:
    return _flip(data, dice, max(0, len(data) - HEADER_BYTES), len(data))


def cut_end(data: bytes, donor: bytes, dice: Random) -> bytes:
    return data[: dice.randrange(len(data))]


def cut_start(data: bytes, donor: bytes, dice: Random) -> bytes:
    return data[_length(len(data), dice) :]


def cut_middle(data: bytes, donor: bytes, dice: Random) -> bytes:
    start, end = _stretch(data, dice)
    return data[:start] + data[end:]


def insert_noise(data: bytes, donor: bytes, dice: Random) -> bytes:
    start, end = _stretch(data, dice)
    return data[:start] + dice.randbytes(end - start) + data[start:]


def repeat_stretch(data: bytes, donor: bytes, dice: Random) -> bytes:
    start, end = _stretch(data, dice)
    return data[:end] + data[start:end] * dice.choice((1, 3)) + data[end:]


def wipe_stretch(data: bytes, donor: bytes, dice: Random) -> bytes:
    start, end = _stretch(data, dice)
    return data[:start] + dice.choice((b"\0", b"\xff")) * (end - start) + data[end:]


def swap_header(data: bytes, donor: bytes, dice: Random) -> bytes:
    """The beginning of one file before the body of another."""
    length = _length(HEADER_BYTES, dice)
    return donor[:length] + data[length:]


def swap_body(data: bytes, donor: bytes, dice: Random) -> bytes:
    start, _ = _stretch(data, dice)
    return data[:start] + donor[start:]


def swap_codec(data: bytes, donor: bytes, dice: Random) -> bytes:
    """Another codec's name, in the sample entry of an mp4, the header of an avi, the track of a
    mkv.
    """
    for names in CODEC_NAMES:
        for name in names:
            if name in data:
                others = [other for other in names if other != name and len(other) <= len(name)]
                return data.replace(name, dice.choice(others).ljust(len(name), b"\0"))
    return data


# Of boxes, elements, chunks and packets


def _surgery(
    data: bytes,
    dice: Random,
    operate: Callable[[list[Node], Node], None],
    kinds: tuple[bytes, ...] = (),
) -> bytes:
    """Operate on a few parts with the list each is in; `kinds`: only on these. Each kind is as
    likely as another.
    """
    form = format_of(data)
    if form is None:
        return data
    tree = form.parse(data)
    for _ in range(dice.choice((1, 1, 1, 3, 10))):
        parts = [part for part in walk(tree) if not kinds or part[1].kind in kinds]
        if parts:
            kind = dice.choice(sorted({node.kind for _, node in parts}))
            operate(*dice.choice([part for part in parts if part[1].kind == kind]))
    return form.pack(tree)


def _place(siblings: list[Node], node: Node) -> int:
    return next(at for at, sibling in enumerate(siblings) if sibling is node)


def _parts(data: bytes) -> list[Node]:
    form = format_of(data)
    return [node for _, node in walk(form.parse(data))] if form else []


def delete_part(data: bytes, donor: bytes, dice: Random) -> bytes:
    def delete(siblings: list[Node], node: Node) -> None:
        del siblings[_place(siblings, node)]

    return _surgery(data, dice, delete)


def repeat_part(data: bytes, donor: bytes, dice: Random) -> bytes:
    """Beside itself or within itself."""

    def repeat(siblings: list[Node], node: Node) -> None:
        dice.choice((node.inside, siblings, siblings)).append(deepcopy(node))

    return _surgery(data, dice, repeat)


def move_part(data: bytes, donor: bytes, dice: Random) -> bytes:
    def move(siblings: list[Node], node: Node) -> None:
        del siblings[_place(siblings, node)]
        siblings.insert(dice.randint(0, len(siblings)), node)

    return _surgery(data, dice, move)


def splice_part(data: bytes, donor: bytes, dice: Random) -> bytes:
    """The part of that name of another file; where there is none, any of its parts."""
    theirs = _parts(donor)

    def splice(siblings: list[Node], node: Node) -> None:
        candidates = [their for their in theirs if their.kind == node.kind] or theirs
        if candidates:
            siblings[_place(siblings, node)] = deepcopy(dice.choice(candidates))

    return _surgery(data, dice, splice)


def rename_part(data: bytes, donor: bytes, dice: Random) -> bytes:
    """To the name of another part; of an mpegts packet: to another stream, with other flags."""
    kinds = sorted({node.kind for node in _parts(data) + _parts(donor)})

    def rename(siblings: list[Node], node: Node) -> None:
        if isinstance(format_of(data), Ts):
            number = int.from_bytes(node.kind[1:], "big") ^ 1 << dice.randrange(24)
            node.kind = node.kind[:1] + number.to_bytes(3, "big")
        else:
            node.kind = dice.choice([kind for kind in kinds if len(kind) == len(node.kind)])

    return _surgery(data, dice, rename)


def lie_about_size(data: bytes, donor: bytes, dice: Random) -> bytes:
    """None at all, too little, far too much, negative, or (EBML) unknown."""

    def lie(siblings: list[Node], node: Node) -> None:
        near = len(node.head) + dice.randint(-16, 16)
        node.claimed = dice.choice((near, *EXTREMES))
        node.width = dice.choice((node.width, node.width, 8)) if node.width else 0

    return _surgery(data, dice, lie)


def swap_configuration(data: bytes, donor: bytes, dice: Random) -> bytes:
    """What one codec's decoder is set up with goes to another's."""
    theirs = [node for node in _parts(donor) if node.kind in CONFIGURATIONS]

    def swap(siblings: list[Node], node: Node) -> None:
        if theirs:
            node.head = dice.choice(theirs).head

    return _surgery(data, dice, swap, CONFIGURATIONS)


def extreme_numbers(data: bytes, donor: bytes, dice: Random) -> bytes:
    """In tables, their counts, times and sizes; any short element of a mkv is a number."""
    short = tuple(
        node.kind for node in _parts(data) if len(node.kind) < 4 and 0 < len(node.head) <= 8
    )

    def overwrite(siblings: list[Node], node: Node) -> None:
        width = len(node.head) if node.kind in short else dice.choice((2, 4, 4, 4, 8))
        places = len(node.head) // max(1, width)
        if places:
            at = width * dice.choice(
                (dice.randrange(places), min(1, places - 1))
            )  # the second word often is a count
            number = dice.choice((*EXTREMES, dice.getrandbits(64))) & (1 << 8 * width) - 1
            order = dice.choice(("big", "little"))
            node.head = node.head[:at] + number.to_bytes(width, order) + node.head[at + width :]

    return _surgery(data, dice, overwrite, NUMBERS + short)


MUTATIONS: dict[str, Callable[[bytes, bytes, Random], bytes]] = {
    mutation.__name__: mutation
    for mutation in (
        *(flip_bits, flip_bits_of_header, flip_bits_of_end, cut_end, cut_start, cut_middle),
        *(insert_noise, repeat_stretch, wipe_stretch, swap_header, swap_body, swap_codec),
        *(delete_part, repeat_part, move_part, splice_part, rename_part),
        *(lie_about_size, swap_configuration, extreme_numbers),
    )
}


def main(arguments: list[str]) -> None:
    from tests.fuzzing import make_corpus, mutant

    seed, out_file = arguments
    with tempfile.TemporaryDirectory() as folder:
        name, made = mutant(make_corpus(Path(folder)), int(seed))
    Path(out_file).write_bytes(made.data)
    print(f"{out_file}: {len(made.data)} bytes, {name} after {', '.join(made.story)}")


if __name__ == "__main__":
    main(sys.argv[1:])
