"""Time that is lost where a file is broken: what counts, and what slides and joined files look
like.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import pytest

from workers.sampling.inside.gaps import Gaps
from workers.sampling.inside.holes import Holes


class Packet(NamedTuple):
    """Of a picture, its times in seconds. Each lies 100 bytes behind the one before."""

    pts: int | None
    dts: int | None
    pos: int | None
    is_corrupt: bool = False
    is_keyframe: bool = False


class Broken(Holes):
    """A file that is broken at these places."""

    def __init__(self, *places: int) -> None:
        super().__init__(io.BytesIO())
        self.places = places

    def between(self, position: int, later: int) -> bool:
        return any(position < place <= later for place in self.places)


def lost(times: list[int], *broken: int, passes: int = 1, **marks: int) -> float:
    """`broken`: numbers of packets before which the file is broken. `corrupt` and `key`: numbers of
    packets that are marked so.
    """
    gaps = Gaps(Broken(*(100 * number for number in broken)))
    for _ in range(passes):
        gaps.rewind()
        for number, time in enumerate(times):
            packet: Any = Packet(
                time, time, 100 * number, marks.get("corrupt") == number, marks.get("key") == number
            )
            gaps.see(packet, 1.0)
    return gaps.lost_share


HOLE = [0, 1, 2, 3, 8, 9, 10]


def test_a_gap_counts_where_the_file_is_broken() -> None:
    assert lost(HOLE) == 0.0
    assert lost(HOLE, 4) == pytest.approx(4 / 10)
    assert lost(HOLE, 2) == 0.0
    assert lost(HOLE, 4, passes=3) == pytest.approx(4 / 10)


@pytest.mark.parametrize("corrupt", [2, 3, 4])
def test_or_where_a_counter_jumps_and_no_key_frame_comes(corrupt: int) -> None:
    assert lost(HOLE, corrupt=corrupt) == pytest.approx(4 / 10)
    assert lost(HOLE, corrupt=corrupt, key=4) == 0.0
    assert lost(HOLE, 4, key=4) == pytest.approx(4 / 10)
    assert lost(HOLE, corrupt=1) == lost(HOLE, corrupt=5) == 0.0


def test_only_what_is_longer_than_gaps_elsewhere_is_lost() -> None:
    assert lost([0, 3, 4, 5, 10, 11], 4) == pytest.approx(2 / 11)
    assert lost([0, 5, 6, 7, 12, 13], 4) == 0.0
    # counters that mean nothing
    assert lost([0, 1, 2, 3, 4], *range(9)) == 0.0


def test_another_clock_is_no_gap() -> None:
    assert lost([0, 1, 2, 3, 63, 64], 4) == pytest.approx(59 / 64)
    assert lost([0, 1, 2, 3, 64, 65], 4) == 0.0
    assert lost([100, 101, 102, 3, 4], 3) == 0.0


def test_packets_without_a_time_or_a_place_are_passed_over() -> None:
    gaps = Gaps(Broken(150))
    for packet in (
        Packet(0, 0, 0),
        Packet(1, None, 100),
        Packet(None, None, 200),
        Packet(9, 9, None),
        Packet(10, 10, 300),
        Packet(11, 11, 400),
    ):
        gaps.see(packet, 1.0)  # type: ignore[arg-type]
    assert gaps.lost_share == 0.0
