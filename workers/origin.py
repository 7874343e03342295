"""Refuses to start with somebody else's `db`. Imported before all else of ours by `workers.app`.

`celery -A workers.app` looks for every module in the current folder first. A `workers` folder there
is Celery's to find (this file is not even read then); `reelvec worker` never looks there.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

OURS = Path(__file__).resolve().parents[1]


def foreign(name: str, ours: Path = OURS) -> str | None:
    """Where `name` would come from, if that is not beside this package."""
    spec = find_spec(name)
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    place = next((place for place in places if place), "nowhere")
    return None if Path(place).resolve() == ours / name else place


if (found := foreign("db")) is not None:
    print(  # noqa: T201
        f"error: db would come from {found}, not from {OURS / 'db'}: Celery looks in the current "
        "folder first. Start it"
        " in another folder, or use `reelvec worker`, which does not.",
        file=sys.stderr,
    )
    raise SystemExit(os.EX_CONFIG)  # 78; db.exit_codes is out of reach
