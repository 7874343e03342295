"""`reelvec report`: the page as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producer.desk import addresses, connect, say
from producer.wording import size

STATEMENT_SECONDS = 60.0


def report(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write here; a file there is replaced.")
    ] = Path("report.html"),
) -> None:
    """Write one HTML page with what `reelvec ui` shows: progress, failures, and the newest videos
    as pictures, some with their neighbours, and the map.

    The file opens from disk and holds its pictures. It asks nothing, and runs nothing but the
    script that draws the map, if `reelvec map` has made one.

    Example: reelvec report --out report.html
    """
    from db.errors import UsageError

    try:
        from producer.ui import report as making
    except ImportError as error:
        raise UsageError(f"the page needs more packages ({error}): pip install '.[ui]'") from error
    from db.stack.addresses import describe
    from producer.local.targets import refuse_file, whole_file, wrote

    refuse_file("--out", out)
    where = addresses(start=False)
    with connect(where, statement_seconds=STATEMENT_SECONDS, read_only=True) as database:
        made = making.html(database, broker_url=where.broker_url, shown=describe(where)).encode()
    done = wrote(out)
    with whole_file(out) as file:
        file.write(made)
    say(f"{done} {out}: {size(len(made))}")
