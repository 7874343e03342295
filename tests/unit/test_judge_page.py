"""The page Judge without a database: the matrix, what stands beside figures, and names that want to
be more than text.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from db.results.judged import Cell
from producer.results.figures import Bin, Calibration, Share
from producer.ui import judge, pages
from producer.ui.judge import Judged, Judgement
from producer.ui.live import Live
from producer.ui.look import Asked
from producer.ui.matrix import MISTAKES, MOST, SHADES, matrix
from tests.exhibition import HOSTILE
from tests.exhibition_judged import FIFTY

CELLS = (
    Cell("films", "films", 60), Cell("films", "sport", 39), Cell("films", "news", 1),
    Cell("cats", "films", 5), Cell("cats", "cats", 5),
)  # fmt: skip


def test_a_row_adds_up_and_a_shade_is_its_part_of_the_row() -> None:
    drawn = matrix(CELLS)
    assert drawn.tags == ("films", "cats", "sport", "news"), "as the rows, then what is no category"
    films, cats = drawn.lines
    assert (films.category, films.videos, films.right) == ("films", 100, 0.6)
    assert [square.cell.videos for square in films.squares] == [60, 0, 39, 1]
    assert [square.shade for square in films.squares] == [3, 0, 2, 1]
    assert [square.is_right for square in cats.squares] == [False, True, False, False]
    assert matrix([Cell("a", "a", 7)]).lines[0].squares[0].shade == SHADES
    assert [(one.cell.category, one.cell.tag) for one in drawn.mistakes] == [
        ("films", "sport"), ("cats", "films"), ("films", "news"),
    ]  # fmt: skip
    assert (drawn.left_out, drawn.has_others) == (0, False)


def test_of_many_categories_the_commonest_are_drawn_and_the_rest_is_counted() -> None:
    names = [f"c{number:03}" for number in range(MOST + 5)]
    right = [Cell(name, name, 1000 - 10 * number) for number, name in enumerate(names)]
    wrong = [Cell(names[0], names[-1], 9), *(Cell(name, names[1], 2) for name in names[2:20])]
    drawn = matrix([*right, *wrong])
    assert drawn.tags == tuple(line.category for line in drawn.lines) == tuple(names[:MOST])
    assert drawn.left_out == 5
    assert drawn.lines[0].others == 9
    for line in drawn.lines:
        assert sum(square.cell.videos for square in line.squares) + line.others == line.videos
    assert len(drawn.mistakes) == MISTAKES


@pytest.mark.parametrize(
    ("videos", "short"),
    [(0, ""), (9, "9"), (999, "999"), (1240, "1.2k"), (9949, "9.9k"), (9950, "10k"), (12_400, "12k"), (2_600_000, "3M")],
)  # fmt: skip
def test_a_number_fits_into_its_square(videos: int, short: str) -> None:
    (square,) = matrix([Cell("a", "a", videos or 1)]).lines[0].squares
    assert (short or "1") == square.short
    assert len(square.short) <= 4


def judged(kind: str | None = None, cells: tuple[Cell, ...] | None = CELLS) -> Judged:
    shares = (Share(1, 8.17, 5.45, 10.89, 2.13, 4.0), Share(5, 19.6, 15.0, 24.0, 10.6, 20.0))
    bins = Calibration(0.12, (Bin(0.5, 0.6, 40, 0.55, 0.43),))
    return Judged("x-clip/en", kind, ("x-clip",), 404, 47, shares, bins, cells)


def test_a_square_leads_to_its_videos_whoever_said_so() -> None:
    for kind, name in ((None, "tagger"), ("logistic", "held_out")):
        address = urlsplit(judged(kind).address(Cell("a&b", "<c>", 1)))
        assert address.path == "/look"
        filters = Asked.of(dict(parse_qsl(address.query))).filters
        assert (filters.category, filters.tag) == ("a&b", "<c>")
        assert getattr(filters, name) == "x-clip/en"


def drawn(*of: Judged, has_pages: bool = True) -> str:
    environment = pages.environment()
    environment.globals |= {"has_pages": has_pages, "shown": ""}
    found = Judgement(of, (), (), datetime.now(UTC), 1.5)
    return environment.get_template("judge.html").render(at="judge", judgement=found, asked=None)


def test_chance_and_interval_stand_beside_every_figure() -> None:
    page = drawn(judged())
    assert "<b>8.2 %</b><small>5.5 to 10.9; chance 2.1</small>" in page
    assert "<b>19.6 %</b><small>15.0 to 24.0; chance 10.6</small>" in page
    assert "said 55.0 % on average, was right in 43.0 % of 40 videos" in page
    assert 'title="films, tagged sport: 39 of its videos, 39.0 %">39</a>' in page
    assert "reelvec evaluate --encoder NAME" in drawn(judged("pls", cells=None))
    assert 'http-equiv="refresh"' not in page
    assert 'href="/look?' not in drawn(judged(), has_pages=False)


def test_names_from_strangers_are_text_in_a_matrix() -> None:
    cells = tuple(Cell(one, other, 1) for one, other in itertools.pairwise((*HOSTILE, *FIFTY)))
    page = drawn(judged(cells=cells))
    for opened in (
        "<script>window",
        "<img src=x",
        "<svg onload",
        "<iframe",
        "<style>",
        "<base",
        "<b>bold",
    ):
        assert opened not in page, opened
    assert page.count("<script") == 3, "its own"


@pytest.mark.parametrize(
    ("has_categories", "has_texts", "has_heads", "encoders", "commands"),
    [
        (False, False, False, [], ["enqueue ./films --as films", "reelvec status"]),
        (False, False, False, ["vivit"], ["enqueue ./films --as films"]),
        (True, False, False, ["vivit"],
         ["enqueue --backbone x-clip --labels tags.csv", "reelvec evaluate --encoder vivit --save genres"]),
        (True, True, False, ["a", "b"], ["reelvec evaluate --encoder a --save genres"]),
        (True, True, True, ["vivit"], []),
    ],
)  # fmt: skip
def test_what_is_missing_has_a_command_that_brings_it(
    has_categories: bool, has_texts: bool, has_heads: bool, encoders: list[str], commands: list[str]
) -> None:
    found = judge.lacking(
        encoders, has_categories=has_categories, has_texts=has_texts, has_heads=has_heads
    )
    assert [one.command for one in found] == commands


def test_what_failed_is_made_again_soon_and_what_is_whole_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producer.ui.live.PAUSE_SECONDS", 0.0)
    made = itertools.count(1)

    async def run() -> None:
        live = Live(lambda: next(made), pause_seconds=3600.0, is_whole=lambda number: number >= 3)
        maker = asyncio.create_task(live.run())
        followed = live.follow()
        assert [await anext(followed) for _ in range(3)] == [1, 2, 3]
        assert await live.latest(patience_seconds=60.0) == 3
        maker.cancel()

    asyncio.run(run())
    assert next(made) == 4
