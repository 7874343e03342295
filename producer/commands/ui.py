"""`reelvec ui`: a page to look at."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.desk import addresses, connect, say

PORT = 8740
STATEMENT_SECONDS = 9.0


def ui(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0: any port that is free.")
    ] = PORT,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
) -> None:
    """Show a page in the browser: what the fleet does now, the videos as pictures with their
    neighbours, a search, a map, and how right tags are.

    It reads, and changes nothing. It ends with Ctrl-C.

    Example: reelvec ui
    """
    from db.errors import UsageError

    try:
        from producer.ui import app, judge, server
    except ImportError as error:
        raise UsageError(f"the page needs more packages ({error}): pip install '.[ui]'") from error
    from db.stack.addresses import describe

    listening = server.listen(host, port)
    where = addresses(start=False)
    address, hosts = server.names(listening)

    def ready() -> None:
        typer.echo(address)
        if not no_browser:
            server.open_browser(address)

    with (
        listening,
        connect(where, statement_seconds=STATEMENT_SECONDS, read_only=True) as database,
        connect(where, statement_seconds=judge.STATEMENT_SECONDS, read_only=True) as patient,
    ):
        page = app.application(
            database, patient, broker_url=where.broker_url, shown=describe(where), hosts=hosts
        )
        say("the page changes nothing and is for this machine only; Ctrl-C ends it")
        server.serve(page, listening, ready)
