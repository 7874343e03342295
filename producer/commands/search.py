"""`reelvec search`: videos by another, by a file, or by words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.desk import open_database, say
from producer.selectors import CATEGORY_FORMS
from producer.tables import print_json, print_table
from workers.backbones import registry
from workers.sampling import policies

if TYPE_CHECKING:
    from db.search import Hit


def search(
    sought: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|FILE|WORDS...",
            help="A video of the catalogue (its number, your own id, or its address), the file or "
            "address of any other video, or what is to be seen, in any language.",
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The model whose vectors are searched. Default: the first that the video has a "
            f"vector of, or whose weights are here; for words {registry.DEFAULT_SEARCHED}, as a "
            "model must understand text without a video."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="As given to enqueue: pretrained, random-tiny, random-full.")
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help=f"{policies.NAMED_HELP} Default for words: the notebook's.")
    ] = None,
    limit: Annotated[int, typer.Option("-k", min=1, help="How many to show.")] = 10,
    category: Annotated[
        str | None, typer.Option(help=f"Only videos of this category: {CATEGORY_FORMS}.")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Find windows, with the seconds where they are.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Find the videos whose stored vectors are nearest to a video, a file, or your words.

    The distance is 1 - cosine: it puts the videos in order and means nothing by itself. A file is
    embedded on this machine; its vector is not kept.

    Example: reelvec search "a dog on a beach"
    """
    from db import session
    from db.errors import UsageError
    from producer import search as desk
    from producer.selectors import recorded_category
    from producer.sought import recognised

    text = " ".join(sought).strip()
    if not text:
        raise UsageError('nothing to search for: reelvec search 42, or "a dog on a beach"')
    space = desk.checked(desk.Space(backbone, weights, sampling))
    with open_database() as database:
        with session.transaction(database) as connection:
            found = recognised(connection, text, say)
            within = None if category is None else recorded_category(connection, category)
        hits = desk.find(database, found, space, desk.Asked(limit, within, windows), say)
    _show(hits, as_json=as_json)
    if not hits:
        say("nothing found: no other " + ("window" if windows else "video") + " has such a vector")


def _show(hits: Sequence[Hit], *, as_json: bool) -> None:
    from dataclasses import asdict

    from db.search import WindowHit

    if as_json:
        for hit in hits:
            print_json(asdict(hit))
        return
    columns = ["video_id", "distance", "category", "title", "uri"]
    rows = [[hit.video_id, f"{hit.distance:.4f}", hit.category, hit.title, hit.uri] for hit in hits]
    for row, hit in zip(rows, hits, strict=True):
        if isinstance(hit, WindowHit):
            row.insert(2, f"{hit.start_seconds:.1f}-{hit.end_seconds:.1f}")
    if rows and len(rows[0]) > len(columns):
        columns.insert(2, "seconds")
    print_table(columns, rows)
