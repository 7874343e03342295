"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.backbones import registry
from workers.sampling import policies

Backbones = Annotated[list[str] | None, typer.Option("--backbone", help=registry.HELP)]
Weights = Annotated[
    str,
    typer.Option(
        help="pretrained; random-tiny and random-full are only for demonstrations: their vectors "
        "mean nothing."
    ),
]
Sampling = Annotated[str, typer.Option(help=policies.HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the same as JSON on stdout.")]
