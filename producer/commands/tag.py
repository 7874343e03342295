"""`reelvec tag`: tags for videos that have vectors already; no video is read again."""

from __future__ import annotations

from typing import Annotated

import typer

from db.errors import UsageError
from producer import selectors
from producer.commands import options


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
    category: selectors.Categories = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    as_json: options.Json = False,
) -> None:
    """Tag videos from their stored vectors: nothing is downloaded or decoded again.

    Example: reelvec tag --head genres
    """
    _ = category, source, since, as_json
    if head is None:
        raise UsageError("say what makes the tags: --head NAME")
    raise UsageError(f"--head {head}: there are no heads yet")
