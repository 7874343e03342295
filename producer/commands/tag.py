"""`reelvec tag`: tags for videos that have vectors already; no video is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db.errors import UsageError
from producer import selectors
from producer.commands import options
from producer.commands.labelling import tag_by_labels


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

    Twice changes nothing, and a run that was broken off is gone on with.

    Example: reelvec tag --labels moods.csv
    """
    chosen = selectors.Selectors(category, None, source, since)
    if (head is None) == (labels is None):
        raise UsageError("say what makes the tags: either --labels FILE or --head NAME")
    if labels is not None:
        return tag_by_labels(labels, encoder or (), chosen, as_json=as_json)
    raise UsageError(f"--head {head}: there are no heads yet")
