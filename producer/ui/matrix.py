"""The confusion matrix as a table: rows are the sources' categories, columns the tags. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from db.results.judged import Cell

#: Categories and tags with a row or column of their own, the commonest; and mistakes that are
#: named beside the table.
MOST, MISTAKES = 60, 12
#: Shades of a square: by the part of its row, in equal steps.
SHADES = 5


@dataclass(frozen=True)
class Square:
    """One cell; `shade` from 0, which is empty, to `SHADES`; `share` of its row, from 0 to 1."""

    cell: Cell
    shade: int
    share: float

    @property
    def is_right(self) -> bool:
        return self.cell.category == self.cell.tag

    @property
    def short(self) -> str:
        """The number in four characters; empty for none."""
        return _short(self.cell.videos)


@dataclass(frozen=True)
class Line:
    """The videos of one category; `right` of them, from 0 to 1, and how many have a tag without a
    column.
    """

    category: str
    videos: int
    right: float
    squares: tuple[Square, ...]
    others: int


@dataclass(frozen=True)
class Matrix:
    """`tags` name the columns; `left_out` counts categories without a row."""

    tags: tuple[str, ...]
    lines: tuple[Line, ...]
    left_out: int
    mistakes: tuple[Square, ...]

    @property
    def has_others(self) -> bool:
        return any(line.others for line in self.lines)


def matrix(cells: Sequence[Cell]) -> Matrix:
    """Categories with the most videos first, and their tags in the same order; then tags that are
    no video's category.
    """
    of_category, of_tag = Counter[str](), Counter[str]()
    for cell in cells:
        of_category[cell.category] += cell.videos
        of_tag[cell.tag] += cell.videos
    categories = _commonest(of_category)
    shown = categories[:MOST]
    others = [tag for tag in _commonest(of_tag) if tag not in of_category]
    tags = (*shown, *others[: MOST - len(shown)])
    counts = {(cell.category, cell.tag): cell.videos for cell in cells}
    lines = tuple(_line(category, of_category[category], tags, counts) for category in shown)
    return Matrix(tags, lines, len(categories) - len(shown), tuple(_mistakes(cells, of_category)))


def _commonest(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def _line(
    category: str, videos: int, tags: Sequence[str], counts: dict[tuple[str, str], int]
) -> Line:
    squares = tuple(
        _square(Cell(category, tag, counts.get((category, tag), 0)), videos) for tag in tags
    )
    right = counts.get((category, category), 0) / videos
    return Line(category, videos, right, squares, videos - sum(one.cell.videos for one in squares))


def _square(cell: Cell, of_row: int) -> Square:
    share = cell.videos / of_row
    return Square(cell, -int(-share * SHADES // 1), share)


def _mistakes(cells: Sequence[Cell], of_category: Counter[str]) -> Iterator[Square]:
    wrong = [cell for cell in cells if cell.category != cell.tag]
    for cell in sorted(wrong, key=lambda cell: (-cell.videos, cell.category, cell.tag))[:MISTAKES]:
        yield _square(cell, of_category[cell.category])


def _short(videos: int) -> str:
    """`9`, `999`, `1.2k`, `12k`, `3M`."""
    if not videos:
        return ""
    if videos < 1000:
        return str(videos)
    if videos < 9950:
        return f"{videos / 1000:.1f}k"
    return f"{videos / 1000:.0f}k" if videos < 999_500 else f"{videos / 1e6:.0f}M"
