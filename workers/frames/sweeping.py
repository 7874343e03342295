"""The sweeper: deletes the objects of packs whose rows are gone, once in the whole fleet at a
time.
"""

from __future__ import annotations

from sqlalchemy import Engine as Database

from workers.frames.store import FrameStore


def sweep(database: Database, store: FrameStore) -> int:
    """One round, to be called with every beat by a worker that has a frame store; returns how many
    objects were deleted. Another process that sweeps makes it return 0 at once.

    Raises `VideoError` (stage `store`) where the store is away: what is left is tried again with
    the next round. Raises `UnavailableError` for the database.
    """
    raise NotImplementedError
