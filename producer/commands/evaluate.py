"""`reelvec evaluate`: how often tags are right."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.commands import options
from producer.desk import open_database, say
from producer.tables import print_json


def evaluate(
    tagger: Annotated[
        list[str] | None,
        typer.Option(help="Judge only this tagger, such as x-clip/en. Repeatable."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare tags with the categories that your sources say.

    Example: reelvec evaluate
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    from producer.results import evaluate as desk
    from producer.results import evaluation_tables

    with open_database(statement_seconds=float("inf")) as database:
        bar = Progress(
            BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), transient=True
        )
        with bar:
            task = bar.add_task("")
            found = desk.evaluate(
                database,
                taggers=tagger or (),
                tell=lambda done, total: bar.update(task, completed=done, total=total),
            )
    if as_json:
        print_json(asdict(found), indent=1)
        return
    evaluation_tables.print_zero_shot(found.zero_shot)
    for line in evaluation_tables.remarks(found.zero_shot):
        say(line)
