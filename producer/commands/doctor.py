"""`reelvec doctor`: one line per check, what to do where one failed, exit code 1 if any did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options

if TYPE_CHECKING:
    from rich.console import Console

    from producer.doctor.check import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
NAME_COLUMNS = 25


def doctor(
    data: Annotated[
        bool,
        typer.Option(
            "--data", help="Also check every row of the database: what is done must be complete."
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="List this source and open its first video; default: REELVEC_SOURCE.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check everything and say what to do next. It changes and starts nothing; the exit code is 1
    when a check failed.

    Example: reelvec doctor --source s3://my-bucket/videos
    """
    from db.exit_codes import ExitCode
    from producer.doctor import every
    from producer.doctor.check import run

    findings: Iterator[Finding] = run(every.checks(source))
    if data:  # begins when the others are through
        findings = chain(findings, run(every.data_checks()))
    found = list(findings) if as_json else _show(findings)
    if as_json:
        _print_json(found)
    else:
        typer.echo(f"\n{summary(found)}")
    if any(finding.status == "fail" for finding in found):
        raise typer.Exit(ExitCode.FAILED)


def summary(found: Sequence[Finding]) -> str:
    counts = {status: sum(finding.status == status for finding in found) for status in STYLES}
    failed, warned = counts["fail"], counts["warn"]
    if failed:
        also = f", and {warned} to look at" if warned else ""
        return f"{failed} {'thing' if failed == 1 else 'things'} to do{also}"
    return f"nothing failed, {warned} to look at" if warned else "all well"


def _show(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it comes: a column each for status, name and fact; what to do on the
    line below.
    """
    from rich.console import Console

    terminal = Console().is_terminal
    console = Console(highlight=False, width=None if terminal else 100_000)
    found: list[Finding] = []
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            console.print(f"{'' if not found else chr(10)}[bold]{group}[/bold]")
        _print(console, finding)
        found.append(finding)
    return found


def _print(console: Console, finding: Finding) -> None:
    from rich.table import Table
    from rich.text import Text

    lines = [(Text(finding.status, STYLES[finding.status]), finding.name, Text(finding.fact))]
    if finding.advice:
        lines.append((Text(""), "", Text(f"→ {finding.advice}")))
    for status, name, said in lines:
        grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        grid.add_column(width=9)
        grid.add_column(width=NAME_COLUMNS)
        grid.add_column(overflow="fold")
        grid.add_row(Text("  ").append(status), Text(name), said)
        console.print(grid)


def _print_json(found: Iterable[Finding]) -> None:
    from producer.tables import print_json

    rows = [
        {
            name: str(getattr(finding, name))
            for name in ("group", "name", "status", "fact", "advice")
        }
        for finding in found
    ]
    print_json(rows, indent=1)
