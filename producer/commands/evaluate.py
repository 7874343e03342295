"""`reelvec evaluate`: how right tags are, and heads that give better ones."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.desk import open_database, operator, progress, say
from producer.local.targets import refuse_file, whole_file
from producer.tables import print_json, print_table

if TYPE_CHECKING:
    from producer.results.evaluate import Begin

STDOUT = "-"


def evaluate(
    tagger: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge only this tagger, such as x-clip/en; default: all but those of random "
            "weights. Repeatable."
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Train heads on the vectors of this encoder; of several, on each and on all of "
            "them side by side. Repeatable."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of head: logistic (the default), centroid, knn or pls. Repeatable."
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, help="In how many parts the videos are asked about.")
    ] = 5,
    confusion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv|-",
            help="Write which categories are mistaken for which into a file, or print it.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Train the head on all videos and keep it under this name, for `reelvec tag`.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare tags with the categories that your sources say, and train heads that give better
    ones.

    Without --encoder it judges the tags that come from text, per window and averaged. With it,
    heads learn from the stored vectors of videos that have a category, and are asked about others:
    videos of one group (channel) are never on both sides. Each figure has beside it what 95 of 100
    draws of the videos give, and what guessing would give.

    Example: reelvec evaluate --encoder vivit --save genres
    """
    from producer.results import evaluate as desk
    from producer.results import evaluation_tables as tables
    from producer.results import kinds

    if confusion is not None and str(confusion) != STDOUT:
        refuse_file("--confusion", confusion)
    asked = desk.Asked(
        tuple(tagger or ()), tuple(encoder or ()), tuple(kind or [kinds.DEFAULT]), folds, save
    )
    with open_database(statement_seconds=float("inf")) as database, progress() as tell:
        found = desk.evaluate(database, asked, _in_steps(tell), who=operator())
    if as_json:
        print_json(tables.facts(found), indent=1)
    else:
        tables.print_tables(found)
    if confusion is not None:
        _write(confusion, tables.confusion_rows(found))
    for line in tables.remarks(found):
        say(line)


def _write(target: Path, rows: Sequence[Sequence[object]]) -> None:
    """Which categories were taken for which, into a CSV file or to stdout."""
    columns = ("tagger", "category", "tag", "videos")
    if str(target) == STDOUT:
        print("")  # noqa: T201 - a table of its own
        print_table(columns, rows, right=("videos",))
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    with whole_file(target) as file:
        file.write(text.getvalue().encode())


def _in_steps(tell: Callable[[int, int], None]) -> Begin:
    """A bar that begins anew for each part of the work."""

    def begin(steps: int) -> Callable[[], None]:
        done = itertools.count(1)
        return lambda: tell(next(done), steps)

    return begin
