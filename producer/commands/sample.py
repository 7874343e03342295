"""`reelvec sample`: which frames of a video are looked at, and what it takes to get them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.commands.in_turn import results_in_turn
from producer.tables import print_json
from workers.sampling import policies

if TYPE_CHECKING:
    from producer.local.sample import Sampled


def sample(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|URL...", help="Video files, s3:// objects, web addresses."),
    ],
    sampling: options.Sampling = policies.DEFAULT,
    as_json: options.Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the frames here: into a .npz file for one video, into a folder for several."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Draw a contact sheet here: a .png file for one video, a folder for several."
        ),
    ] = None,
) -> None:
    """Show the 96 frames a worker would look at, and what it takes to get them.

    Example: reelvec sample clip.mp4 --sheet clip.png
    """
    from producer.local.sample import Sampling

    with Sampling(files, policy=sampling, out=out, sheet=sheet) as here:
        for made in results_in_turn(here.videos, here.sample, as_json=as_json):
            if as_json:
                print_json(made.summary())
            else:
                _show(made)


def _show(made: Sampled) -> None:
    typer.echo(made.file)
    for subject, words in made.facts().items():
        typer.echo(f"  {subject:<9}{words}")
    for line in made.table():
        typer.echo(f"    {line}")
    for path in made.written:
        typer.echo(f"  written  {path}")
