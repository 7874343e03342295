"""What happens to a frame store: strikes of the nemesis for a fleet in two stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fleet import Fleet

#: So much of what lies there is spoiled at once.
SPOILED_SHARE = 0.2


def away(fleet: Fleet, random: Random) -> None:
    """The store is not there for some seconds, and a file is in its place."""
    store = _store(fleet)
    elsewhere = store.with_name("frames-elsewhere")
    store.rename(elsewhere)
    store.touch()
    time.sleep(random.uniform(1.0, 5.0))
    store.unlink()
    elsewhere.rename(store)


def flip(fleet: Fleet, random: Random) -> None:
    """A bit is flipped in some objects."""
    for path in _some(fleet, random):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            size = file.seek(0, 2)
            at = random.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))


def cut(fleet: Fleet, random: Random) -> None:
    """Some objects lose their end."""
    for path in _some(fleet, random):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            file.truncate(file.seek(0, 2) // 2)


def delete(fleet: Fleet, random: Random) -> None:
    """Some objects are deleted by somebody else."""
    for path in _some(fleet, random):
        path.unlink(missing_ok=True)


STORES: dict[str, Callable[[Fleet, Random], None]] = {
    "store-away": away,
    "store-flip": flip,
    "store-cut": cut,
    "store-delete": delete,
}


def _store(fleet: Fleet) -> Path:
    assert fleet.frames is not None, "a fleet in one stage has no store"
    return fleet.frames


def _some(fleet: Fleet, random: Random) -> list[Path]:
    found = objects(_store(fleet))
    return random.sample(found, round(SPOILED_SHARE * len(found)))


def objects(store: Path) -> list[Path]:
    """Everything that lies in a store."""
    return sorted(path for path in store.rglob("*") if path.is_file())
