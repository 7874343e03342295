"""`reelvec status`: one verdict line first, its exit code by it."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from producer import selectors
from producer.desk import database, say

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from sqlalchemy import Engine

    from db.results import Failed, Progress
    from db.selection import Selection
    from producer.look import Look

INTERVAL_SECONDS = 5.0


def status(
    failed: Annotated[bool, typer.Option("--failed", help="The failed videos and their reasons.")] = False,
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    limit: Annotated[int, typer.Option(min=1, help="With --failed: at most this many.")] = 20,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until all is done.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help=f"With --watch: between two looks; default {INTERVAL_SECONDS:g}."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON on stdout; one line a look.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="The same as metrics for Prometheus; exit 0 whatever they say.")
    ] = False,
) -> None:
    """Progress, rate, bottleneck and time to finish; exit 1 when videos wait and nothing gets them done.

    The selectors go with --failed: reelvec status --failed --error truncated --since 2h
    """
    from db.errors import UsageError

    if (category or error or source is not None or since is not None) and not failed:
        raise UsageError("--category, --error, --source and --since go with --failed")
    if watch and failed:
        raise UsageError("--watch looks at the progress; it does not go with --failed")
    if interval is not None and not watch:
        raise UsageError("--interval goes with --watch")
    if metrics and (watch or failed or as_json):
        raise UsageError("--metrics is one look in a form of its own; it goes with no other option")
    if failed:
        _show_failures(category, selectors.parse(category, error, source, since), limit, as_json=as_json)
        return
    from producer import look

    with database() as engine:
        if watch:
            code = _watch(engine, INTERVAL_SECONDS if interval is None else interval, as_json=as_json)
        else:
            seen = look.take(engine)
            if metrics:
                _show_metrics(seen)
            else:
                _show(seen, as_json=as_json)
            # a script that writes metrics to a file must do so above all when something is wrong
            code = 0 if metrics else seen.verdict.exit_code
    raise typer.Exit(code)


def _show_metrics(look: Look) -> None:
    from producer import metrics

    typer.echo(metrics.text(look), nl=False)


def _show(look: Look, *, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(look.as_json()))
        return
    above, below = _lines(look)
    typer.echo("\n".join(above))
    _print(_table(look.rows))
    typer.echo("\n".join(below))


def _lines(look: Look) -> tuple[list[str], list[str]]:
    """What stands above and below the table of categories."""
    from producer import verdict

    above = [look.verdict.line, look.bottleneck and look.bottleneck.line, verdict.waiting_line(look.outages)]
    running = look.rows[0].running if look.rows else 0
    below = [verdict.workers_line(look.fleet, running=running), verdict.failures_line(look.codes)]
    return [line for line in above if line], [line for line in below if line]


def _table(rows: list[Progress]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("category")
    names = ("videos", "done", "failed", "running", "waiting")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.category, *(f"{getattr(row, name):,}" for name in names))
    return table


def _print(table: RenderableType) -> None:
    from rich.console import Console

    Console(soft_wrap=True, markup=False, highlight=False).print(table)


def _watch(engine: Engine, interval_seconds: float, *, as_json: bool) -> int:
    """Look until everything is done; a database that goes away is waited for. Returns the verdict's exit code."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from db.errors import UnavailableError
    from producer import look

    in_place = sys.stdout.isatty() and not as_json
    live = Live(console=Console(highlight=False), auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with live if in_place else contextlib.nullcontext():
        while True:
            try:
                seen = look.take(engine)
            except UnavailableError as error:
                trouble = f"{error}; trying again every {interval_seconds:g} s"
                if in_place:
                    live.update(Text(trouble), refresh=True)
                else:
                    say(trouble)
            else:
                if in_place:
                    live.update(_picture(seen), refresh=True)
                elif as_json:
                    _show(seen, as_json=True)
                else:
                    typer.echo(seen.verdict.line)
                if seen.verdict.state == "DONE":
                    return seen.verdict.exit_code
            time.sleep(interval_seconds)


def _picture(look: Look) -> Group:
    from rich.console import Group
    from rich.text import Text

    above, below = _lines(look)
    return Group(*map(Text, above), _table(look.rows), *map(Text, below))


def _show_failures(categories: list[str] | None, selection: Selection, limit: int, *, as_json: bool) -> None:
    from db import results, session
    from db.selection import Selection

    with database() as engine, session.transaction(engine) as connection:
        selectors.refuse_unknown_categories(connection, categories)
        rows = results.failures(connection, selection, limit=limit)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(row) for row in rows]))
        return
    _print_failures(rows)
    if not rows:
        say("no failed videos of that kind" if selection != Selection() else "no failed videos")
    elif len(rows) == limit:
        say(f"the latest {limit}; more with --limit, all of them in the view failures")


def _print_failures(rows: list[Failed]) -> None:
    """Aligned on a terminal, tab-separated without a header for a pipe."""
    from rich.table import Table

    from producer.verdict import first_line

    cells = [
        [
            str(row.video_id),
            first_line(row.external_id or ""),
            row.error_code,
            str(row.attempts),
            row.uri,
            first_line(row.error),
        ]
        for row in rows
    ]
    if not sys.stdout.isatty():
        for line in cells:
            typer.echo("\t".join(line))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("video", "id", "code", "attempts", "uri", "error"):
        table.add_column(name, overflow="fold")
    for line in cells:
        table.add_row(*line)
    _print(table)
