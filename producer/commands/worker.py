"""`reelvec worker`: one Celery worker per GPU, or one on the CPU."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="all|none|0,1", help="GPUs that get a process each; none: the CPU works.")
    ] = "all",
) -> None:
    """Work the queue: one process per GPU, or one on the CPU. The same line on every node.

    Each process is `celery -A workers.app worker`. One that dies is started again, one that refuses is not
    (docs/exit-codes.md). Ctrl-C, SIGTERM, a closed terminal or a spot notice (REELVEC_SPOT_NOTICE) drain all: exit 0,
    usually within 10 s, and whatever was in hand is somebody else's at once.
    """
    from workers import supervisor

    raise typer.Exit(supervisor.run(gpus))
