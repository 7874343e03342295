"""Which packets must be decoded so that the wanted pictures come out exactly as if all had been: pure, knows no codec.

A GOP is a run of packets whose first starts decoding anew. Two things can be left out: the tail of a GOP after its last
wanted picture, and the leading pictures after a start (they come later in the file, are shown before it, and refer to
the tail of the GOP before) where none of them is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def needed(
    times: Sequence[int | None], starts_anew: Sequence[bool], wanted: AbstractSet[int], *, complete: bool
) -> list[bool]:
    """One flag per packet, in file order.

    `times`: presentation times, None for packets that are decoded and never shown. `wanted`: times asked for.
    `complete`: the last GOP ends here; if False more of it may follow, so all of it is needed.
    """
    flags = [False] * len(times)
    starts = [at for at, anew in enumerate(starts_anew) if anew or at == 0]
    whole = not complete
    for start, end in zip(reversed(starts), [len(times), *reversed(starts)], strict=False):
        last = end - 1 if whole else max((at for at in range(start, end) if times[at] in wanted), default=start - 1)
        leading = _leading(times, start, end) if starts_anew[start] else set()
        whole = any(times[at] in wanted for at in leading)
        for at in range(start, last + 1):
            flags[at] = whole or at not in leading
    return flags


def _leading(times: Sequence[int | None], start: int, end: int) -> set[int]:
    """Packets of the GOP that are shown before its first one."""
    first = times[start]
    if first is None:
        return set()
    return {at for at in range(start + 1, end) if (time := times[at]) is not None and time < first}
