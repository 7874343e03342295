"""`reelvec status`: one verdict line first, its exit code by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.desk import database, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.results import Fleet, Progress
    from producer.verdict import Verdict


def status(
    failed: Annotated[bool, typer.Option("--failed", help="The failed videos and their reasons.")] = False,
    category: Annotated[str | None, typer.Option("--category", help="With --failed: only this category.")] = None,
    error: Annotated[str | None, typer.Option("--error", help="With --failed: only this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --failed: at most this many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON on stdout.")] = False,
) -> None:
    """Progress, rate and time to finish; exit 1 when videos wait and nobody works."""
    from db.errors import UsageError

    if (category or error) and not failed:
        raise UsageError("--category and --error go with --failed")
    with database() as engine:
        if failed:
            _show_failures(engine, category, error, limit, as_json=as_json)
        else:
            raise typer.Exit(_show_progress(engine, as_json=as_json))


def _show_progress(engine: Engine, *, as_json: bool) -> int:
    from db import results, session
    from producer import verdict
    from producer.wait import stale_seconds

    with session.transaction(engine) as connection:
        rows = results.progress(connection)
        rate = results.recent_rate(connection)
        fleet = results.fleet(connection, stale_seconds=stale_seconds())
        codes = results.failure_counts(connection)
    judged = verdict.judge(rows, rate, fleet)
    if as_json:
        _print_json(judged, rows, fleet, codes)
    else:
        typer.echo(judged.line)
        _print_table(rows)
        beat = "none yet" if fleet.last_beat_seconds is None else f"{fleet.last_beat_seconds:.0f} s ago"
        typer.echo(f"workers alive {fleet.alive}, {fleet.in_flight} videos in flight, last beat {beat}")
        if codes:
            typer.echo(
                "failures " + " · ".join(f"{code} {count:,}" for code, count in codes) + "  → reelvec status --failed"
            )
    return judged.exit_code


def _print_table(rows: list[Progress]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("category")
    names = ("videos", "done", "failed", "running", "waiting")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.category, *(f"{getattr(row, name):,}" for name in names))
    Console(soft_wrap=True).print(table)


def _print_json(judged: Verdict, rows: list[Progress], fleet: Fleet, codes: list[tuple[str, int]]) -> None:
    import dataclasses
    import json

    report = {
        **dataclasses.asdict(judged),
        "categories": [dataclasses.asdict(row) for row in rows],
        "fleet": dataclasses.asdict(fleet),
        "failures": dict(codes),
    }
    typer.echo(json.dumps(report))


def _show_failures(engine: Engine, category: str | None, error: str | None, limit: int, *, as_json: bool) -> None:
    import dataclasses
    import json

    from db import results, session

    with session.transaction(engine) as connection:
        rows = results.failures(connection, category=category, code=error, limit=limit)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    for row in rows:
        typer.echo(f"{row.video_id}\t{row.error_code}\t{row.uri}\n\t{row.error}")
    if not rows:
        say("no failed videos" + (" of that kind" if category or error else ""))
    elif len(rows) == limit:
        say(f"the latest {limit}; more with --limit, all of them in the view failures")
