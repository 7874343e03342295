"""`reelvec ui`: a page to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands.steer import STATEMENT_SECONDS as CHANGE_SECONDS
from producer.desk import addresses, connect, operator, say

if TYPE_CHECKING:
    from db.stack.addresses import Addresses
    from producer.ui.steering import Hand

PORT = 8740
STATEMENT_SECONDS = 9.0


def ui(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0: any port that is free.")
    ] = PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Another address of this machine to listen on, or a name of it. Who opens the "
            "page there must enter a token, which is printed once."
        ),
    ] = "127.0.0.1",
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes", help="Let those who open the page retry, cancel and pause, too."
        ),
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
) -> None:
    """Show a page in the browser: what the fleet does now, the videos as pictures with their
    neighbours, a search, a map, and how right tags are.

    It reads, and changes nothing unless --allow-changes is given. It ends with Ctrl-C.

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
    token = None if listening.is_loopback else _new_token()

    def ready() -> None:
        typer.echo(listening.address)
        if not no_browser:
            server.open_browser(listening.address)

    with (
        listening.socket,
        connect(where, statement_seconds=STATEMENT_SECONDS, read_only=True) as database,
        connect(where, statement_seconds=judge.STATEMENT_SECONDS, read_only=True) as patient,
        _hand(where, allowed=allow_changes) as hand,
    ):
        access = app.Access(listening.hosts, where.local, token, listening.port, hand)
        page = app.application(
            database, patient, broker_url=where.broker_url, shown=describe(where), access=access
        )
        may = "may change what it shows" if allow_changes else "changes nothing"
        say(f"the page {may}; Ctrl-C ends it")
        if token is not None:
            _say_token(token)
        server.serve(page, listening.socket, ready)


@contextmanager
def _hand(where: Addresses, *, allowed: bool) -> Iterator[Hand | None]:
    """Connections that may write, only where changes are allowed."""
    from producer.ui.steering import Hand

    if not allowed:
        yield None
        return
    with connect(where, statement_seconds=CHANGE_SECONDS) as database:
        yield Hand(database, operator())


def _new_token() -> str:
    """Nothing but the terminal shows it: every log line is rid of it."""
    import secrets

    from db import known_secrets

    token = secrets.token_urlsafe(24)
    known_secrets.remember("page", [token])
    return token


def _say_token(token: str) -> None:
    say(f"token, to be entered in the page: {token}")
    say(
        "it is served over plain HTTP: on a network that others listen to, use "
        "ssh -L 8740:127.0.0.1:8740 THIS_MACHINE instead of --host"
    )
