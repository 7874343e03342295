"""What `reelvec frames` does: rows held against objects, and what does not belong together goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from db import session, settings
from db.errors import PackError, UnavailableError, UsageError, VideoError
from db.frames import holdings
from db.jobs.selection import Selection
from workers.frames import sweeping
from workers.frames.opening import open_store
from workers.frames.store import FrameStore
from workers.settings import WorkerSettings

#: Younger objects may be on their way: their rows are looked at again when they are older.
OLD_SECONDS = 3600.0
NAMES_AT_ONCE = 1000
READS_AT_ONCE = 8
#: Characters of a digest: other names are of objects that were never finished.
DIGEST_CHARACTERS = 64


@dataclass
class Verified:
    """What rows and objects say of each other at `moment`. `missing`: objects that rows name and
    the store has not; `damaged`: those of another size or other bytes; `orphans`: objects that no
    row names; `unfinished`: what is left of broken-off writes; `never_written`: rows.
    """

    moment: datetime
    objects: int = 0
    size_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    never_written: int = 0
    waiting: int = 0

    @property
    def is_well(self) -> bool:
        """What waits to be deleted is in the workers' hands."""
        return not (
            self.missing or self.damaged or self.orphans or self.unfinished or self.never_written
        )


@contextmanager
def opened() -> Iterator[FrameStore]:
    """The frame store of this environment. Raises `UsageError` if there is none; while it is open,
    what it does not do is `UnavailableError`.
    """
    store = open_store(settings.load(WorkerSettings))
    if store is None:
        raise UsageError("REELVEC_FRAMES is not set: it names the frame store, as on the workers")
    try:
        yield store
    except VideoError as error:
        raise UnavailableError(str(error)) from error
    finally:
        store.close()


def verify(
    database: Engine, store: FrameStore, *, read: bool, tell: Callable[[int, int], None]
) -> Verified:
    """Hold every row against the store's listing; with `read`, every object against its digest, and
    `tell` hears how far that is. Raises `VideoError`, `UnavailableError`.
    """
    with session.transaction(database) as connection:
        found = Verified(holdings.moment(connection))
        found.never_written = holdings.never_written(connection)
        found.waiting = holdings.waiting(connection)
    sizes = _listed(database, store, found)
    with session.transaction(database) as connection:
        session.allow_pauses(connection)
        for name, size_bytes in holdings.written(connection, found.moment):
            if name not in sizes:
                found.missing.append(name)
            elif sizes[name] != size_bytes:
                found.damaged.append(name)
    if read:
        whole = sizes.keys() - set(found.damaged) - set(found.orphans)
        found.damaged += _unreadable(store, sorted(whole), tell)
    return found


def _listed(database: Engine, store: FrameStore, found: Verified) -> dict[str, int]:
    """The size of every whole object; `found` hears of those that nobody names."""
    sizes: dict[str, int] = {}
    listing = store.list()
    while some := [stored for _, stored in zip(range(NAMES_AT_ONCE), listing, strict=False)]:
        whole = [stored for stored in some if len(stored.name) == DIGEST_CHARACTERS]
        sizes |= {stored.name: stored.size_bytes for stored in whole}
        old = [stored.name for stored in some if stored.age_seconds > OLD_SECONDS]
        found.unfinished += [name for name in old if len(name) != DIGEST_CHARACTERS]
        with session.transaction(database) as connection:
            names = [name for name in old if len(name) == DIGEST_CHARACTERS]
            found.orphans += holdings.unknown(connection, names)
    found.objects, found.size_bytes = len(sizes), sum(sizes.values())
    return sizes


def _unreadable(
    store: FrameStore, names: list[str], tell: Callable[[int, int], None]
) -> Iterator[str]:
    def is_damaged(name: str) -> bool:
        try:
            store.get(name)
        except PackError as error:
            return error.code != "pack_missing"  # it went while all were read
        return False

    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        for start in range(0, len(names), NAMES_AT_ONCE):
            some = names[start : start + NAMES_AT_ONCE]
            verdicts = zip(some, threads.map(is_damaged, some), strict=True)
            for number, (name, damaged) in enumerate(verdicts, start + 1):
                tell(number, len(names))
                if damaged:
                    yield name


def purge(database: Engine, store: FrameStore, found: Verified) -> int:
    """Remove what `verify` has found, and whatever waits to be deleted; returns how many objects
    are gone. Their rows go first. Raises as `verify`.
    """
    with session.transaction(database) as connection:
        holdings.forget_never_written(connection)
        holdings.forget(connection, found.missing + found.damaged, before=found.moment)
        holdings.bury(connection, found.orphans)
        holdings.hasten(connection)
    for name in found.unfinished:
        store.delete(name)
    return sweeping.sweep(database, store) + len(found.unfinished)


def forget(database: Engine, selection: Selection) -> int:
    """Remove the packs of the videos that are selected; the sweeper deletes their objects. Returns
    how many: a worker that writes one of them waits for a page, not for millions.
    """
    forgotten = 0
    while True:
        with session.transaction(database) as connection:
            page = holdings.forget_selected(connection, selection)
        forgotten += page
        if page < holdings.PAGE_ROWS:
            return forgotten
