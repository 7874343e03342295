"""`reelvec export`: vectors into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producer.desk import open_database, progress, say
from producer.wording import plural


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER|TAGGER",
            help="Whose vectors: the name of a model that `reelvec status` shows; or whose "
            "probabilities: a tagger such as x-clip/ru.",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="FILE|FOLDER",
            help="A file that ends in .npz, .parquet or .csv, or a folder, which gets parts in "
            "Parquet; after a break the same command goes on behind the last part.",
        ),
    ],
    windows: Annotated[
        bool,
        typer.Option(
            "--windows",
            help="Those of every window instead of one of each video: one row a window, in a .npz "
            "one row a video [videos, windows, numbers].",
        ),
    ] = False,
) -> None:
    """Write the vectors of one model, or a tagger's probabilities, with the videos they are of.

    A .npz has the keys labels (category ids, -1 for none), filenames and embeddings, and beside
    them video_ids, uris and categories. All rows are of one moment; workers may go on meanwhile.

    Example: reelvec export x-clip --to x-clip.npz
    """
    from producer.results import export as desk

    desk.refuse_target(to)
    place = f"{to}, in the place of the file that was there" if to.is_file() else str(to)
    with open_database(statement_seconds=float("inf")) as database, progress() as tell:
        written = desk.export(database, name, to, windows=windows, tell=tell)
    if written:
        say(f"{plural(written, 'vector')} of {name} written to {place}")
    else:
        say(f"{to} has all vectors of {name} already: nothing was written")
