"""Which samples of an mp4 track its boxes call encrypted: pure, of any bytes, short ones too, and
never failing.

A sample is protected if its `seig` group says so, or, where it is in none, if its sample
description does. Sources: ISO/IEC 14496-12, 8.5.2 (`stsd`), 8.7.4 (`stsc`), 8.9 (`sbgp`, `sgpd`,
`csgp`), 8.12 (`sinf`); ISO/IEC 23001-7, 6 (`seig`) and 8.2 (`tenc`); Microsoft's PIFF 1.1, 5.3.2
and 5.3.3; FFmpeg, libavutil/encryption_info.c.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from workers.sampling.inside.bits import BitReader
from workers.sampling.inside.boxes import boxes_in

#: Content of a visual sample entry before the boxes within.
_ENTRY_BYTES = 78
#: Sample entries of protected tracks: any scheme's, and Apple's FairPlay before it.
_PROTECTED_ENTRIES = (b"encv", b"drmi")
_SEIG = b"seig"
_PIFF_TRACK = bytes.fromhex("8974dbce7be74c5184f97148f9882554")
_PIFF_SAMPLES = bytes.fromhex("a2394f525a9b4f14a2446c427c648df4")
#: `seig`: reserved, pattern, is protected, IV size, key id; then an IV for all, if its size is 0.
_SEIG_BYTES = 20
#: Indices of groups above this are those of the fragment itself.
LOCAL = 0x10000
#: More than any real file has in one box.
MAX_RUNS = 100_000
_COMPACT_BYTES = 4096


class Runs:
    """A number for each sample, as runs of equal ones."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """`runs`: how many samples, and their number."""
        pairs = list(runs)
        self._ends = list(accumulate(count for count, _ in pairs))
        self._numbers = [number for _, number in pairs]

    def at(self, sample: int) -> int | None:
        """The number of a sample, counted from 0; None beyond the last run."""
        run = bisect_right(self._ends, sample)
        return self._numbers[run] if run < len(self._ends) else None


class Groups(NamedTuple):
    """Of each `seig` group whether it is protected; `default`: the group of samples that are in
    none, 0 for no group.
    """

    protected: tuple[bool, ...] = ()
    default: int = 0

    def at(self, index: int) -> bool | None:
        """Groups are counted from 1; None if there is no such."""
        return self.protected[index - 1] if 0 < index <= len(self.protected) else None


def _number(data: bytes, at: int, count: int = 4) -> int:
    return int.from_bytes(data[at : at + count], "big")


def descriptions(stsd: bytes) -> tuple[bool, ...]:
    """Of each sample description whether its samples are protected unless a group says
    otherwise.
    """
    return tuple(_is_protected(kind, entry) for kind, entry in boxes_in(stsd[8:]))


def _is_protected(kind: bytes, entry: bytes) -> bool:
    """An entry of a clear kind is clear, whatever was left in it; a protected one may say in `tenc`
    that it is not.
    """
    if kind not in _PROTECTED_ENTRIES:
        return False
    for name, sinf in boxes_in(entry[_ENTRY_BYTES:]):
        for inner, schi in boxes_in(sinf) if name == b"sinf" else ():
            for innermost, tenc in boxes_in(schi) if inner == b"schi" else ():
                if innermost == b"tenc":
                    return tenc[6:7] != b"\0"
                if innermost == b"uuid" and tenc.startswith(_PIFF_TRACK):
                    return _number(tenc, 20, 3) != 0  # an algorithm
    return True


def description_runs(stsc: bytes) -> Runs:
    """The number of each sample's description, counted from 0."""
    rows = [
        (_number(stsc, at), _number(stsc, at + 4), _number(stsc, at + 8))
        for at in _rows(stsc, 4, 12)
    ]
    starts = [first for first, _, _ in rows[1:]] + [1 << 32]
    return Runs(
        (max(0, stop - first) * samples, description - 1)
        for (first, samples, description), stop in zip(rows, starts, strict=False)
    )


def groups(sgpd: bytes) -> Groups | None:
    """None if these groups are about something else."""
    if sgpd[4:8] != _SEIG:
        return None
    version, at, length, default = _number(sgpd, 0, 1), 8, 0, 0
    if version >= 1:
        length, at = _number(sgpd, at), at + 4
    if version >= 2:
        default, at = _number(sgpd, at), at + 4
    protected: list[bool] = []
    count, at = min(_number(sgpd, at), MAX_RUNS), at + 4
    while len(protected) < count and at < len(sgpd):
        own = length
        if not length and version:
            own, at = _number(sgpd, at), at + 4
        entry = sgpd[at : at + _SEIG_BYTES + 1]
        protected.append(entry[2:3] not in (b"\0", b""))
        if not version:  # no length: as long as its fields say
            own = _SEIG_BYTES + (
                1 + _number(entry, _SEIG_BYTES, 1) if protected[-1] and entry[3:4] == b"\0" else 0
            )
        at += own
    return Groups(tuple(protected), default)


def group_runs(sbgp: bytes) -> Runs | None:
    """The `seig` group of each sample; None if the box is about other groups."""
    if sbgp[4:8] != _SEIG:
        return None
    before = 12 if _number(sbgp, 0, 1) else 8
    return Runs((_number(sbgp, at), _number(sbgp, at + 4)) for at in _rows(sbgp, before, 8))


def compact_group_runs(csgp: bytes) -> Runs | None:
    """The same of a compact box, whose groups follow patterns."""
    if csgp[4:8] != _SEIG:
        return None
    flags = _number(csgp, 3, 1)
    widths = [
        4 << (flags >> shift & 3) for shift in (4, 2, 0)
    ]  # of pattern lengths, sample counts, indices
    bits = BitReader(csgp[12 if flags & 0x40 else 8 :][:_COMPACT_BYTES])
    runs: list[tuple[int, int]] = []
    try:
        shapes = [(bits.take(widths[0]), bits.take(widths[1])) for _ in range(bits.take(32))]
        for length, samples in shapes:
            pattern = [bits.take(widths[2]) for _ in range(length)]
            if flags & 0x80:  # the highest bit stands for "the fragment's own"
                top = 1 << widths[2] - 1
                pattern = [index - top + LOCAL if index & top else index for index in pattern]
            if len(set(pattern)) == 1:
                runs.append((samples, pattern[0]))
            elif pattern:
                runs += [
                    (1, pattern[at % length]) for at in range(min(samples, MAX_RUNS - len(runs)))
                ]
    except EOFError:
        pass
    return Runs(runs)


def piff_override(uuid: bytes) -> bool | None:
    """Whether PIFF's box about a fragment's samples calls them protected; None: it leaves it to the
    track, or is another.
    """
    if not uuid.startswith(_PIFF_SAMPLES) or not _number(uuid, 17, 3) & 1:
        return None
    return _number(uuid, 20, 3) != 0


def protects_nothing(info: bytes) -> bool:
    """Whether FFmpeg's note on a protected packet (its `encryption_info`) says that none of its
    bytes is encrypted.
    """
    key_bytes, iv_bytes, count = _number(info, 12), _number(info, 16), _number(info, 20)
    first = 24 + key_bytes + iv_bytes
    return count > 0 and not any(
        _number(info, at + 4) for at in range(first, min(first + 8 * count, len(info)), 8)
    )


def _rows(data: bytes, count_at: int, row_bytes: int) -> range:
    """Where the rows of a table begin that lies behind its count."""
    first = count_at + 4
    whole = max(0, len(data) - first) // row_bytes
    return range(
        first, first + row_bytes * min(whole, _number(data, count_at), MAX_RUNS), row_bytes
    )
