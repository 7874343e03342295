"""`reelvec search`: videos by words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.desk import open_database, say
from producer.tables import print_json, print_table
from workers.backbones import registry
from workers.sampling import policies

if TYPE_CHECKING:
    from db.search import Hit


def search(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORDS...", help="What is to be seen in the videos, in any language."
        ),
    ],
    backbone: Annotated[
        str,
        typer.Option(
            help="The model whose vectors are searched; it must understand text without a video."
        ),
    ] = registry.DEFAULT_SEARCHED,
    weights: Annotated[
        str, typer.Option(help="As given to enqueue: pretrained, random-tiny, random-full.")
    ] = "pretrained",
    sampling: Annotated[str, typer.Option(help=policies.NAMED_HELP)] = policies.DEFAULT,
    limit: Annotated[int, typer.Option("-k", min=1, help="How many videos to show.")] = 10,
    as_json: options.Json = False,
) -> None:
    """Find the videos whose stored vectors are nearest to your words.

    The distance is 1 - cosine: it puts the videos in order and means nothing by itself.

    Example: reelvec search "a dog on a beach"
    """
    from db.errors import UsageError
    from producer.search import nearest_videos, searched_encoder

    sought = " ".join(words).strip()
    if not sought:
        raise UsageError('no words given: reelvec search "a dog on a beach"')
    encoder = searched_encoder(backbone, weights=weights, sampling=sampling)
    with open_database() as database:
        hits = nearest_videos(database, encoder, sought, limit=limit)
    _show(hits, as_json=as_json)
    if not hits:
        say(f"no video has a vector of {encoder.name} any more")


def _show(hits: list[Hit], *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        for hit in hits:
            print_json(asdict(hit))
        return
    columns = ["video_id", "distance", "category", "title", "uri"]
    print_table(
        columns,
        [(hit.video_id, f"{hit.distance:.4f}", hit.category, hit.title, hit.uri) for hit in hits],
    )
