"""Bars as numbers for SVG, whose attributes a strict policy allows where styles would need
`unsafe-inline`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from db.progress.history import History

#: Of the chart of the pace, in its own units; the drawing stretches with the page.
WIDTH, HEIGHT, GAP = 600.0, 120.0, 2.0


@dataclass(frozen=True)
class Part:
    """A piece of a bar, in percent of its length."""

    name: str
    start: float
    length: float


@dataclass(frozen=True)
class Column:
    """One slice of time: `done` stands on `failed`, heights in units of the chart."""

    left: float
    width: float
    done_top: float
    done_height: float
    failed_height: float
    label: str


@dataclass(frozen=True)
class Chart:
    """`top` is the pace, in videos per second, that reaches the upper edge."""

    columns: tuple[Column, ...]
    top: float


def parts(counts: Sequence[tuple[str, float]]) -> tuple[Part, ...]:
    """A whole bar, divided as the counts are; what is nothing has no part."""
    whole = sum(count for _, count in counts)
    made, start = [], 0.0
    for name, count in counts:
        if count > 0:
            length = 100 * count / whole
            made.append(Part(name, round(start, 3), round(length, 3)))
            start += length
    return tuple(made)


def pace(history: History) -> Chart:
    """The chart of how many videos ended per second in each slice."""
    if not history.slices:
        return Chart((), 0.0)
    seconds = history.slice_seconds
    top = _round_up(max((one.done + one.failed) / seconds for one in history.slices))
    step = WIDTH / len(history.slices)
    columns = []
    for number, one in enumerate(history.slices):
        done, failed = (HEIGHT * count / seconds / top for count in (one.done, one.failed))
        label = f"{one.done / seconds:,.2f} videos/s done"
        if one.failed:
            label += f", {one.failed / seconds:,.2f} failed"
        columns.append(
            Column(
                round(number * step + GAP / 2, 2),
                round(step - GAP, 2),
                round(HEIGHT - done - failed, 2),
                round(done, 2),
                round(failed, 2),
                label,
            )
        )
    return Chart(tuple(columns), top)


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999999)
