"""`reelvec embed`: the pipeline of the workers, right here, with neither broker nor database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.commands.in_turn import results_in_turn
from producer.desk import say
from producer.tables import print_json
from producer.wording import plural
from workers.sampling import policies

if TYPE_CHECKING:
    from producer.local.embed import Embedded


def embed(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Video files.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the vectors here: into a .npz file for one video, into a folder for "
            "several."
        ),
    ] = None,
    backbone: options.Backbones = None,
    weights: options.Weights = "pretrained",
    sampling: options.Sampling = policies.DEFAULT,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts for the models that read text; default: the shipped English ones.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compute the vectors of files on this machine, without a queue and a database.

    Example: reelvec embed clip.mp4 --out clip.npz
    """
    from db.exit_codes import ExitCode
    from producer.local.embed import Embedder

    incomplete = False
    with Embedder(
        backbone, weights=weights, sampling=sampling, labels=labels, out=out, files=files
    ) as embedder:
        for made in results_in_turn(embedder.videos, embedder.embed, as_json=as_json):
            incomplete = incomplete or bool(made.failures)
            _show(made, as_json=as_json)
    if incomplete:
        raise typer.Exit(ExitCode.FINISHED_WITH_FAILURES)


def _show(made: Embedded, *, as_json: bool) -> None:
    if as_json:
        print_json(made.summary())
        return
    facts, target = made.facts, f" → {made.written}" if made.written else ""
    typer.echo(
        f"{made.file}: {facts.codec} {facts.width_px}x{facts.height_px}, "
        f"{facts.duration_seconds:.1f} s{target}"
    )
    for name, shape in made.shapes.items():
        tag = f"  {made.tags[name][0]} {made.tags[name][1]:.2f}" if name in made.tags else ""
        typer.echo(f"  {name:<12} {plural(shape[0], 'window')} x {shape[1]}{tag}")
    for name, error in made.failures.items():
        say(f"error: {made.file}: {name}: {error}")
