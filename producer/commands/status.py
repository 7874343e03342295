"""`reelvec status`: one verdict line first, its exit code by it."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from producer import selectors
from producer.commands import options
from producer.desk import addresses, connect, open_database, say
from producer.tables import drawn_table, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Group, RenderableType

    from db.jobs.selection import Selection
    from producer.status.snapshot import Snapshot

INTERVAL_SECONDS = 5.0
#: Whatever is away: connecting ends after 5 s, a statement after this and a fifth, asking the
#: broker after 8 s.
STATEMENT_SECONDS = 9.0
LIMIT = 20


def status(
    workers: Annotated[
        bool,
        typer.Option(
            "--workers",
            help="Print a line for each worker: what it does, its last claim and its last error.",
        ),
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="List the failed videos and their reasons.")
    ] = False,
    log: Annotated[
        bool,
        typer.Option("--log", help="List who has retried, cancelled, paused and resumed what."),
    ] = False,
    category: selectors.Categories = None,
    error: selectors.Errors = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"With --failed and --log: at most this many; default {LIMIT}."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print again and again until everything is done.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help=f"With --watch: the time between two snapshots; default {INTERVAL_SECONDS:g}.",
        ),
    ] = None,
    as_json: options.Json = False,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            help="Print the same as metrics for Prometheus; the exit code is then always 0.",
        ),
    ] = False,
) -> None:
    """Show progress, rate, bottleneck and time left. The exit code is 1 when somebody must do
    something, for example when videos wait and no worker takes them.

    It asks Postgres and the broker, and starts nothing. --category, --error, --source and --since
    go with --failed.

    Example: reelvec status --failed --error truncated --since 2h
    """
    from db.errors import UsageError

    chosen = [
        name
        for name, asked in (("--workers", workers), ("--failed", failed), ("--log", log))
        if asked
    ]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are separate lists: ask for one of them")
    if (category or error or source is not None or since is not None) and not failed:
        raise UsageError("--category, --error, --source and --since need --failed")
    if limit is not None and not (failed or log):
        raise UsageError("--limit needs --failed or --log")
    if watch and (failed or log):
        raise UsageError(f"--watch shows the progress; it cannot be combined with {chosen[0]}")
    if interval is not None and not watch:
        raise UsageError("--interval needs --watch")
    if metrics and (watch or chosen or as_json):
        raise UsageError("--metrics cannot be combined with other options")
    if failed:
        _failures(
            category,
            selectors.Selectors(category, error, source, since).parsed(),
            limit or LIMIT,
            as_json=as_json,
        )
    elif log:
        _log(limit or LIMIT, as_json=as_json)
    else:
        raise typer.Exit(
            _progress(
                workers=workers,
                as_json=as_json,
                metrics=metrics,
                interval_seconds=(interval or INTERVAL_SECONDS) if watch else None,
            )
        )


def _progress(
    *, workers: bool, as_json: bool, metrics: bool, interval_seconds: float | None
) -> int:
    """One look, or with an interval one after the other. Returns the exit code."""
    from producer.status import snapshot
    from producer.status.broker import Question

    where = addresses(start=False)
    question = Question(where.broker_url)
    with connect(where, statement_seconds=STATEMENT_SECONDS) as database:
        if interval_seconds is not None:
            return _watch(
                lambda: snapshot.take(database, Question(where.broker_url)),
                interval_seconds,
                workers=workers,
                as_json=as_json,
            )
        seen = snapshot.take(database, question)
    if metrics:
        from producer.status import metrics as prometheus

        typer.echo(prometheus.text(seen), nl=False)
        return (
            0  # a script that writes metrics to a file must do so above all when something is wrong
        )
    _show(seen, workers=workers, as_json=as_json)
    return seen.verdict.exit_code


def _show(snapshot: Snapshot, *, workers: bool, as_json: bool) -> None:
    if as_json:
        print_json(snapshot.as_json())
        return
    above, below = _lines(snapshot)
    if workers:
        say("\n".join(above))
        print_table(*_worker_table(snapshot))
        return
    from producer.status.progress_tables import progress_tables

    typer.echo("\n".join(above))
    for table in progress_tables(snapshot):
        _print(table)
    typer.echo("\n".join(below))


def _lines(snapshot: Snapshot) -> tuple[list[str], list[str]]:
    """What stands above and below the table of categories."""
    from producer.status import lines

    above = [
        snapshot.verdict.line,
        snapshot.bottleneck and snapshot.bottleneck.line,
        lines.waiting(snapshot.outages),
    ]
    running = snapshot.rows[0].running if snapshot.rows else 0
    below = [
        lines.workers(snapshot.fleet, running=running),
        lines.frames(snapshot.fleet, snapshot.ahead, snapshot.stages),
        lines.broker(snapshot.broker),
        lines.failures(snapshot.codes),
        lines.counts(snapshot.counts_age_seconds),
    ]
    lines_above = (
        *above,
        *lines.halted(snapshot.halts),
        *lines.drifts(snapshot.drifts),
        *lines.weights(snapshot.models, snapshot.drifts),
    )
    return [line for line in lines_above if line], [line for line in below if line]


def _worker_table(snapshot: Snapshot) -> tuple[tuple[str, ...], list[list[str]]]:
    """Columns and a row for each worker, by host and name."""
    from producer.status import lines

    fleet = snapshot.fleet
    places: dict[tuple[str, int], list[str]] = {}
    for refusal in snapshot.halts.workers:
        places.setdefault((refusal.host, refusal.pid), []).append(refusal.place)
    rows = [
        lines.worker_cells(
            worker, is_alive=is_alive, refuses=places.get((worker.host, worker.pid), [])
        )
        for members, is_alive in ((fleet.workers, True), (fleet.stale, False))
        for worker in sorted(
            members, key=lambda worker: (worker.host, worker.name or "", worker.pid)
        )
    ]
    return lines.WORKER_COLUMNS, rows


def _print(table: RenderableType) -> None:
    from rich.console import Console

    Console(soft_wrap=True, markup=False, highlight=False).print(table)


def _watch(
    take: Callable[[], Snapshot], interval_seconds: float, *, workers: bool, as_json: bool
) -> int:
    """Snapshot until everything is done; a database that goes away is waited for. Returns the
    verdict's exit code.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from db.errors import UnavailableError

    in_place = sys.stdout.isatty() and not as_json
    live = Live(
        console=Console(highlight=False),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live if in_place else contextlib.nullcontext():
        while True:
            try:
                seen = take()
            except UnavailableError as error:
                trouble = f"{error}; trying again every {interval_seconds:g} s"
                if in_place:
                    live.update(Text(trouble), refresh=True)
                else:
                    say(trouble)
            else:
                if in_place:
                    live.update(_picture(seen, workers=workers), refresh=True)
                elif as_json or workers:
                    _show(seen, workers=workers, as_json=as_json)
                else:
                    typer.echo(seen.verdict.line)
                if seen.verdict.state == "DONE":
                    return seen.verdict.exit_code
            time.sleep(interval_seconds)


def _picture(snapshot: Snapshot, *, workers: bool) -> Group:
    from rich.console import Group
    from rich.text import Text

    above, below = _lines(snapshot)
    from producer.status.progress_tables import progress_tables

    tables = progress_tables(snapshot)
    if workers:
        tables = [drawn_table(*_worker_table(snapshot))]
    return Group(*map(Text, above), *tables, *map(Text, below))


def _failures(
    categories: list[str] | None, selection: Selection, limit: int, *, as_json: bool
) -> None:
    from db import session
    from db.jobs.selection import Selection
    from db.progress import rates
    from producer.wording import first_line

    with open_database(start=False) as database, session.transaction(database) as connection:
        selectors.refuse_unknown_categories(connection, categories)
        found = rates.failures(connection, selection, limit=limit)
        strange = None if found else selectors.unknown_source(connection, selection)
    if strange is not None:
        say(strange)
    if as_json:
        print_json([asdict(row) for row in found])
        return
    cells: list[list[str | None]] = [
        [
            str(row.video_id),
            None if row.external_id is None else first_line(row.external_id),
            row.error_code,
            str(row.attempts),
            row.uri,
            first_line(row.error),
        ]
        for row in found
    ]
    print_table(("video", "id", "code", "attempts", "uri", "error"), cells)
    if not found:
        say("no failed videos of that kind" if selection != Selection() else "no failed videos")
    elif len(found) == limit:
        say(f"the latest {limit}; more with --limit, all of them in the view failures")


def _log(limit: int, *, as_json: bool) -> None:
    from db import session
    from db.jobs import steering
    from producer.wording import first_line

    with open_database(start=False) as database, session.transaction(database) as connection:
        found = steering.latest(connection, limit=limit)
    if as_json:
        print_json([asdict(action) | {"at": action.at.isoformat()} for action in found])
        return
    cells: list[list[str | None]] = [
        [
            action.at.astimezone().isoformat(" ", "seconds"),
            action.who,
            action.action,
            None if action.videos is None else f"{action.videos:,}",
            first_line(action.what),
        ]
        for action in found
    ]
    print_table(("when", "who", "what", "videos", "options"), cells)
    if not found:
        say("nothing was retried, cancelled or paused yet")
    elif len(found) == limit:
        say(f"the latest {limit}; more with --limit")
