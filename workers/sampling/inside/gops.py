"""Which packets must be decoded so that the wanted pictures come out exactly as if all had been:
pure, knows no codec.

A GOP is a run of pieces (packets, or frames within one) whose first starts decoding anew. Left out
are the pieces that no wanted picture of their GOP refers to (where a codec does not say what it
refers to: those after the last wanted picture), and the leading pictures after a start (they come
later in the file, are shown before it, and refer to the tail of the GOP before) where none of them
is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol


class Piece(Protocol):
    """`time`: presentation time, None for what is decoded and not shown. `starts_anew`: decoding
    can start here.

    `refers`: how many pieces back those lie that it refers to; None: to any before it in its GOP.
    """

    @property
    def time(self) -> int | None: ...
    @property
    def starts_anew(self) -> bool: ...
    @property
    def refers(self) -> AbstractSet[int] | None: ...


def needed(pieces: Sequence[Piece], wanted: AbstractSet[int], *, complete: bool) -> list[bool]:
    """One flag per piece. Pieces are in file order; `wanted` are the times asked for.

    `complete`: the last GOP ends here; if False more of it may follow, so all of it is needed.
    """
    flags = [False] * len(pieces)
    starts = [at for at, piece in enumerate(pieces) if piece.starts_anew or at == 0]
    whole = not complete
    for start, end in zip(reversed(starts), [len(pieces), *reversed(starts)], strict=False):
        gop = range(start, end)
        chosen = set(gop) if whole else _referred(pieces, wanted, gop)
        leading = _leading(pieces, gop) if pieces[start].starts_anew else set()
        whole = any(pieces[at].time in wanted for at in leading)
        for at in chosen:
            flags[at] = whole or at not in leading
    return flags


def _referred(pieces: Sequence[Piece], wanted: AbstractSet[int], gop: range) -> set[int]:
    """The wanted pieces of a GOP, those they refer to, those these refer to, and so on."""
    chosen: set[int] = set()
    everything_before = False
    for at in reversed(gop):
        if everything_before or at in chosen or pieces[at].time in wanted:
            chosen.add(at)
            back = pieces[at].refers
            if back is None:
                everything_before = True
            else:
                chosen.update(at - distance for distance in back if at - distance in gop)
    return chosen


def _leading(pieces: Sequence[Piece], gop: range) -> set[int]:
    """Pieces of the GOP that are shown before its first one."""
    first = pieces[gop.start].time
    if first is None:
        return set()
    return {at for at in gop[1:] if (time := pieces[at].time) is not None and time < first}
