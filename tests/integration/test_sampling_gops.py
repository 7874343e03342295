"""Which packets are left out, on paper: letters are packets in file order."""

from __future__ import annotations

import pytest

from workers.sampling.gops import needed


def left_in(file: str, wanted: str, *, complete: bool = True) -> str:
    """`file`: shown times as letters in file order, a capital starts a GOP, `.` is never shown. Returns what is needed."""
    times = [None if letter == "." else ord(letter.lower()) for letter in file]
    starts = [letter.isupper() for letter in file]
    flags = needed(times, starts, {ord(letter) for letter in wanted}, complete=complete)
    return "".join(letter for letter, flag in zip(file, flags, strict=True) if flag)


@pytest.mark.parametrize(
    ("file", "wanted", "expected"),
    [
        ("Abcdef", "a", "A"),
        ("Abcdef", "d", "Abcd"),
        ("AbcDefGhi", "ah", "AGh"),  # tails and a whole GOP are left out
        ("AbcDefGhi", "", ""),
        ("Adbc", "b", "Adb"),  # file order, not shown order
        # open GOP: d and e are shown before F and refer to c and F
        ("AbcFdeghi", "ag", "AFg"),  # nobody wants them: they go, and so does the tail they refer to
        ("AbcFdeghi", "ad", "AbcFd"),  # one is wanted: the tail before is needed
        ("AbcFdeghi", "e", "AbcFde"),
        ("AbcFdeIghjk", "h", "FIgh"),  # only one GOP back, without its own leading pictures
        # cut by an edit list: decoded, never shown
        ("...d", "d", "...d"),
        ("A..dE", "e", "E"),
    ],
)
def test_needed_packets(file: str, wanted: str, expected: str) -> None:
    assert left_in(file, wanted) == expected


def test_a_gop_that_may_go_on_is_needed_to_its_end() -> None:
    assert left_in("AbcDef", "a", complete=False) == "ADef"


def test_no_packets_need_nothing() -> None:
    assert needed([], [], set(), complete=True) == []
