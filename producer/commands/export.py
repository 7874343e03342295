"""`reelvec export`: vectors into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producer.desk import open_database, say


def export(
    encoder: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER", help="Whose vectors: a name that `reelvec status` shows."
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="FILE|FOLDER",
            help="A file that ends in .npz, .parquet or .csv, or a folder, which gets parts in "
            "Parquet and is gone on with where a run was broken off.",
        ),
    ],
    windows: Annotated[
        bool, typer.Option("--windows", help="One row for each window instead of each video.")
    ] = False,
) -> None:
    """Write the vectors of one model into a file, with the videos they are of.

    A .npz has the keys labels (category ids, -1 for none), filenames and embeddings, and beside
    them video_ids, uris and categories. All rows are of one moment; workers may go on meanwhile.

    Example: reelvec export x-clip --to x-clip.npz
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from producer.results import export as desk

    with open_database(statement_seconds=float("inf")) as database:
        bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
        with bar:
            task = bar.add_task("")
            rows = desk.export(
                database,
                encoder,
                to,
                windows=windows,
                tell=lambda done, total: bar.update(task, completed=done, total=total),
            )
    say(f"{rows:,} rows of {encoder} written to {to}")
