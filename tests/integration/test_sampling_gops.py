"""Which packets are left out, on paper: letters are packets in file order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from workers.sampling.inside.gops import needed


@dataclass(frozen=True)
class Letter:
    """Shown when its letter's turn comes; a capital starts a GOP, `.` is never shown."""

    letter: str
    refers: set[int] | None = None

    @property
    def time(self) -> int | None:
        return None if self.letter == "." else ord(self.letter.lower())

    @property
    def starts_anew(self) -> bool:
        return self.letter.isupper()


def left_in(
    file: str, wanted: str, refers: list[set[int] | None] | None = None, *, complete: bool = True
) -> str:
    pieces = [
        Letter(letter, back)
        for letter, back in zip(file, refers or [None] * len(file), strict=True)
    ]
    flags = needed(pieces, {ord(letter) for letter in wanted}, complete=complete)
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
        (
            "AbcFdeghi",
            "ag",
            "AFg",
        ),  # nobody wants them: they go, and so does the tail they refer to
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
    assert needed([], set(), complete=True) == []


@pytest.mark.parametrize(
    ("refers", "wanted", "expected"),
    [
        # A and i before e, A and e before c
        ([set(), {1}, {1, 2}, {1, 3}], "c", "Aiec"),
        ([set(), {1}, {1, 2}, {1, 3}], "i", "Ai"),
        ([set(), {1}, {2}, {3}], "c", "Ac"),  # siblings are left out
        ([set(), {1}, {2}, {1}], "c", "Aec"),  # what it refers to refers on
        ([set(), {1}, None, {1}], "c", "Aiec"),  # one that does not say needs all before it
        ([set(), {1}, None, {3}], "c", "Ac"),  # unless nobody needs that one
        (
            [set(), {1}, {9}, {1}],
            "c",
            "ec",
        ),  # before the file's start: damage, no reason to fail here
    ],
)
def test_where_packets_say_what_they_refer_to(
    refers: list[set[int] | None], wanted: str, expected: str
) -> None:
    assert left_in("Aiec", wanted, refers) == expected
    assert left_in("Aiec", "", refers, complete=False) == "Aiec"
