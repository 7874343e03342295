"""`reelvec worker`: one Celery worker per GPU, or one on the CPU."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Stage = Literal["sample"]


def worker(
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus",
            metavar="all|none|0,1",
            help="Which GPUs get a process each: all of them, none (the CPU then does the work), "
            "or numbers.",
        ),
    ] = "all",
    stage: Annotated[
        Stage | None,
        typer.Option(
            "--stage",
            help="sample: only sample videos, for which no GPU is needed, and leave the frames to "
            "workers that have one (REELVEC_FRAMES says where). Default: all of it.",
        ),
    ] = None,
) -> None:
    """Work on the queued videos: one process for each GPU, or one on the CPU. Run the same line on
    every machine.

    Each process is what `celery -A workers.app worker` runs. One that dies is started again; one
    that refuses its configuration is not (docs/exit-codes.md lists the codes). Ctrl-C, SIGTERM, a
    closed terminal or a spot notice (REELVEC_SPOT_NOTICE) end them all, usually within 10 s, with
    exit code 0. Videos that were in hand go back to the queue at once, and other workers take them.

    Example: reelvec worker --gpus 0,1
    """
    from workers.node import supervisor

    raise typer.Exit(supervisor.run(gpus, stage))
