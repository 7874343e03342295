"""`reelvec up`: make or start the local stack and bring its database to this version; `--stop`
stops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.desk import say

if TYPE_CHECKING:
    from db.stack.local_stack import LocalStack


def up(
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop both servers; their data stay.")
    ] = False,
) -> None:
    """Start a Postgres and a Valkey (a Redis) of your own on this machine, without Docker or root,
    and prepare the database.

    You may run it as often as you like: servers that run are left alone. Commands that need the
    servers start them if they are stopped, and say so; `status` and `doctor` start nothing.
    REELVEC_DATA_DIR chooses the folder of the data.

    Example: reelvec up
    """
    from db.stack import local_stack
    from workers import settings

    settings.refuse_unknown()
    stack = local_stack.LocalStack(local_stack.default_data_dir())
    if stop:
        say(
            f"stopped; the data stay in {stack.data_dir}"
            if stack.down()
            else f"nothing runs in {stack.data_dir}"
        )
    else:
        _start(stack)


def _start(stack: LocalStack) -> None:
    from db import schema
    from db.stack import addresses

    state = stack.up()
    schema.upgrade(state.database_url)
    say(f"running in {stack.data_dir}")
    say(addresses.describe(addresses.Addresses(state.database_url, state.broker_url, local=True)))
    if configured := addresses.configured_variables():
        say(
            f"but {' and '.join(configured)} {'is' if len(configured) == 1 else 'are'} set: until "
            "that is undone, every other command uses the environment's addresses and not this "
            "stack"
        )
    say(
        "next: `enqueue SOURCE` records videos, `reelvec worker` works on them, `reelvec up "
        "--stop` stops this"
    )
