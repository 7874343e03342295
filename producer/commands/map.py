"""`reelvec map`: vectors in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.desk import open_database, operator, progress, say
from producer.tables import print_json
from producer.wording import plural

if TYPE_CHECKING:
    from producer.results.mapping import Mapped


def map_(
    encoder: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENCODER]...",
            help="Whose vectors: names that `reelvec status` shows. Default: all that have any.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="pca: the two directions in which the vectors differ most; or pacmap (extra "
            "map): keeps neighbours together better, and takes longer. Default: as the map was "
            "made before, else pca."
        ),
    ] = None,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Make the map anew, also where only a few vectors are new."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Place the vectors of each encoder on a map of two dimensions, which `reelvec ui`, `reelvec
    report` and exports to Parquet then show.

    What is new since the last time is placed beside the rest, which stays where it is; with pacmap
    everything moves. The map is kept in the database, and points go with their videos.

    Example: reelvec map x-clip
    """
    from dataclasses import asdict

    from db.errors import UsageError
    from producer.results import mapping

    with open_database(statement_seconds=float("inf")) as database:
        chosen = encoder or mapping.names(database)
        if not chosen:
            raise UsageError("no encoder has vectors yet: `reelvec status` says what is waiting")
        for name in chosen:
            with progress() as tell:
                made = mapping.make(database, name, method, anew=anew, who=operator(), tell=tell)
            if as_json:
                print_json(asdict(made))
            say(_told(made))


def _told(made: Mapped) -> str:
    """What was done, and where the map is made of much less than it now shows."""
    line = f"{made.encoder}: {plural(made.points, 'point')} by {made.method}, "
    line += f"{made.new:,} of them new" if made.new else "none of them new"
    if made.variance_share is not None:
        line += f"; its two axes hold {100 * made.variance_share:.0f} % of the variance"
    if made.points > 2 * made.vectors:
        line += (
            f". The axes are those of {plural(made.vectors, 'vector')}: `reelvec map "
            f"{made.encoder} --anew` finds those of all"
        )
    return line
