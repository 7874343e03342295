"""The sweeper: deletes the objects of packs whose rows are gone, one process in the fleet
at a time.

Each round of a worker sweeps what is due. What cannot be deleted waits in the database until it
can.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine as Database

from db import session
from db.errors import VideoError
from db.frames import tombstones
from workers.frames.store import AT_ONCE, FrameStore

#: Objects of one transaction: who records one of these packs waits for so many.
BATCH = 200


def sweep(database: Database, store: FrameStore) -> int:
    """Delete everything that is due; returns how many objects. Another process that sweeps makes it
    return at once.

    Raises `VideoError` (store_unavailable) where something could not be deleted, `UnavailableError`
    for the database.
    """
    deleted = 0
    while (swept := _sweep_batch(database, store)) is not None:
        deleted += swept
    return deleted


def _sweep_batch(database: Database, store: FrameStore) -> int | None:
    """None: nothing is due, or not ours to do."""
    with session.transaction(database) as connection:
        session.allow_pauses(connection)
        taken = tombstones.take(connection, BATCH)
        if taken is None or not any(taken):
            return None
        unnamed, named = taken
        gone, failed = _delete(store, unnamed)
        tombstones.settle(connection, gone=gone, named=named, failed=list(failed))
    if failed:  # after the commit: what is gone need not be deleted again
        raise next(iter(failed.values()))
    return len(gone)


def _delete(store: FrameStore, digests: Sequence[str]) -> tuple[list[str], dict[str, VideoError]]:
    """What is gone, and what could not be deleted. After the first failure nothing more is tried:
    the store may be away, and each try waits for it.
    """
    gone: list[str] = []
    failed: dict[str, VideoError] = {}

    def delete(digest: str) -> None:
        if failed:
            return
        try:
            store.delete(digest)
        except VideoError as error:
            failed[digest] = error
        else:
            gone.append(digest)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(delete, digests))
    return gone, failed
