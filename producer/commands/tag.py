"""`reelvec tag`: tags for videos that have vectors already; no video is read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from db.errors import UsageError
from producer import selectors
from producer.commands import options
from producer.commands.labelling import tag_by_labels
from producer.desk import open_database, progress, say
from producer.tables import print_json
from producer.wording import plural

if TYPE_CHECKING:
    from producer.results.tagging import Tagged


def tag(
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="NAME[@VERSION]",
            help="By a head that `reelvec evaluate --save` has stored; without a version by the "
            "newest.",
        ),
    ] = None,
    unsure_below: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Give no tag where the best probability is below P, from 0 to 1. It is kept with "
            "the head and holds for all its tags, also for those that are there.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="By these labels, as enqueue takes them: of siglip2 from its stored vectors, of "
            "x-clip where enqueue --keep-context was given.",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            help="With --labels: only by this encoder, a name that `reelvec status` shows. "
            "Repeatable. Default: all that read text.",
        ),
    ] = None,
    category: selectors.Categories = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    as_json: options.Json = False,
) -> None:
    """Tag videos from their stored vectors: nothing is downloaded or decoded again.

    Videos whose tag is made of what they have now are left out: a run that was broken off goes on,
    and a run every night tags what is new. --since compares with the time when videos were
    recorded.

    Example: reelvec tag --head genres --unsure-below 0.5, or reelvec tag --labels moods.csv
    """
    chosen = selectors.Selectors(category, None, source, since)
    if (head is None) == (labels is None):
        raise UsageError("say what makes the tags: either --labels FILE or --head NAME")
    if unsure_below is not None and labels is not None:
        raise UsageError("--unsure-below is for --head: scores by labels are not calibrated")
    if encoder and head is not None:
        raise UsageError("--encoder is for --labels: a head reads the encoders it was trained on")
    if labels is not None:
        tag_by_labels(labels, encoder or (), chosen, as_json=as_json)
    elif head is not None:
        _tag_by_head(head, unsure_below, chosen, as_json=as_json)


def _tag_by_head(
    head: str, unsure_below: float | None, chosen: selectors.Selectors, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from db import session
    from producer.results import tagging

    selection = chosen.parsed()
    with open_database(statement_seconds=float("inf")) as database:
        with session.transaction(database) as connection:
            selectors.refuse_unknown_categories(connection, chosen.categories)
        with progress() as tell:
            found = tagging.tag(database, head, selection, unsure_below=unsure_below, tell=tell)
    if as_json:
        print_json(asdict(found))
    for line in _told(found):
        say(line)


def _told(found: Tagged) -> list[str]:
    lines = [
        f"{found.head}: {plural(found.tagged, 'video')} tagged, {found.already:,} were already"
    ]
    if found.unsure_below:
        lines.append(
            f"unsure of {found.unsure:,} of the {found.all_tagged:,} it has tagged in all: they "
            f"have less than {found.unsure_below:g} and get no tag in best_tags"
        )
    if found.without_vectors:
        lines.append(_without_vectors(found))
    return lines


def _without_vectors(found: Tagged) -> str:
    """How many could not be tagged, and what would help: enqueue leaves those that failed alone."""
    line = (
        f"{plural(found.without_vectors, 'video')} not tagged, for want of a vector of "
        f"{' and '.join(found.encoders)}"
    )
    if found.failed:
        line += f"; {found.failed:,} of them failed, and reelvec status --failed says why"
    if found.failed == found.without_vectors:
        return line
    others = " for the others" if found.failed else ""
    return f"{line}: enqueue --backbone makes it{others}, then run this again"
