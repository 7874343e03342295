"""Where every command begins: importing this refuses, by file and name, a `db`, `workers` or
`producer` that is not reelvec's own.

Those three names are common, and another package of the environment, a folder on PYTHONPATH or, for
Celery, the current folder may hold one of them. This module has a name that nobody else has, and
imports nothing of ours until they are known to lie beside it.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = ("db", "workers", "producer")
OURS = Path(__file__).resolve().parent


def foreign(name: str, ours: Path = OURS) -> str | None:
    """Where `name` would come from, if that is not beside this module."""
    spec = find_spec(name)
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    place = next((place for place in places if place), "nowhere")
    return None if Path(place).resolve() == ours / name else place


def _refuse_foreign() -> None:
    """Ends the process with 78 if a module of ours would be somebody else's."""
    for name in NAMES:
        if (place := foreign(name)) is None:
            continue
        if Path(place).absolute().parent == Path.cwd():
            advice = (
                "Python looks in the current folder first. Start it in another folder, or use "
                "`reelvec worker`, which does not look there"
            )
        else:
            advice = (
                "give reelvec an environment of its own (python3 -m venv), or take that folder off "
                "PYTHONPATH"
            )
        print(  # noqa: T201
            f"error: the module {name} would come from {place}, not from {OURS / name}: {advice}",
            file=sys.stderr,
        )
        raise SystemExit(os.EX_CONFIG)  # 78; db.exit_codes may be somebody else's


_refuse_foreign()


def enqueue() -> None:
    """The script `enqueue`."""
    from producer import cli

    cli.enqueue_main()


def reelvec() -> None:
    """The script `reelvec`."""
    from producer import cli

    cli.main()
