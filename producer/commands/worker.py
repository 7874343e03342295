"""`reelvec worker`: one Celery worker per GPU, or one on the CPU."""

from __future__ import annotations

import typer


def worker() -> None:
    """Work the queue: one process per GPU, or one on the CPU. The same line on every node.

    Each process is `celery -A workers.app worker`; SIGTERM drains it.
    """
    from workers import supervisor

    raise typer.Exit(supervisor.run())
