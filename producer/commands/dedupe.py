"""`reelvec dedupe`: videos that are nearly the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer import selectors
from producer.commands import options
from producer.desk import open_database, progress, say
from producer.wording import plural, size

if TYPE_CHECKING:
    from typing import TextIO

#: As in the database's function `near_duplicates`. What lies on either side: docs/tagging.md.
ABOVE = 0.95


class Kept(StrEnum):
    """Which video of a group is kept."""

    LARGEST = "largest"
    OLDEST = "oldest"


def dedupe(
    encoder: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER", help="Whose vectors: a name that `reelvec status` shows."
        ),
    ],
    above: Annotated[
        float,
        typer.Option(
            metavar="SIMILARITY",
            help="Videos whose vectors have at least this cosine are near-duplicates.",
        ),
    ] = ABOVE,
    keep: Annotated[
        Kept,
        typer.Option(
            help="Which video of a group to keep: the one with the most pixels, then bytes, or the "
            "one that was recorded first.",
        ),
    ] = Kept.LARGEST,
    category: selectors.Categories = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write to this file instead of stdout."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List groups of videos that are nearly the same, and which one of each to keep.

    A line a video, the one to keep first; `distance` (1 - cosine) is to that one, and empty where
    only other videos of the group lie between. With --json a line a group, with all its pairs.
    --category, --source and --since (when they were recorded) choose the videos whose
    near-duplicates are looked for, which may be any. Nothing is deleted.

    Example: reelvec dedupe x-clip --since 1d
    """
    from db import session
    from db.administration import indexes
    from producer.local.targets import refuse_file
    from producer.results import dedupe as desk

    if out is not None:
        refuse_file("--out", out)
    selection = selectors.Selectors(category, None, source, since).parsed()
    with open_database(statement_seconds=float("inf")) as database:
        with session.transaction(database) as connection:
            selectors.refuse_unknown_categories(connection, category)
            if encoder in [index.encoder for index in indexes.unindexed(connection)]:
                say(
                    f"{encoder} has no index, so each video is compared with all others; after "
                    f"`reelvec db index {encoder}` this takes milliseconds a video"
                )
        with progress() as tell:
            found = list(
                desk.groups(database, encoder, selection, above=above, keep=keep, tell=tell)
            )
    with _opened(out) as file:
        (desk.write_json if as_json else desk.write_csv)(file, found)
    videos = sum(len(group.videos) for group in found)
    limit = f"a cosine of at least {above:g}; --above changes it"
    say(
        f"{plural(videos, 'video')} in {plural(len(found), 'group')} of near-duplicates ({limit}): "
        f"{videos - len(found):,} could go, {size(sum(group.spare_bytes for group in found))}"
    )


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    from io import TextIOWrapper

    from producer.local.targets import whole_file

    with whole_file(out) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
