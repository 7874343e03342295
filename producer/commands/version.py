"""`--version` of both scripts."""

from __future__ import annotations

from typing import Annotated

import typer


def _print(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"reelvec {metadata.version('reelvec')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=_print, help="Print the version of reelvec and end."
    ),
]
