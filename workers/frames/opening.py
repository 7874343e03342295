"""Which frame store is meant: `REELVEC_FRAMES` and its keys."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

from db.errors import UsageError
from workers.frames.bucket import open_bucket
from workers.frames.folder import FolderStore
from workers.frames.store import FrameStore
from workers.settings import WorkerSettings


def open_store(
    settings: WorkerSettings, *, stop: threading.Event | None = None
) -> FrameStore | None:
    """The store that `REELVEC_FRAMES` names, unasked whether it answers; None: it names none. Once
    `stop` is set what fails is not tried again: it raises `Cancelled`.

    Raises `UsageError` for what is neither a bucket nor an absolute folder,
    `RefusedConfigurationError` for keys that are not whole.
    """
    where = settings.frames
    if where is None:
        return None
    if Path(where).is_absolute():
        return FolderStore(Path(where))
    if not where.startswith("s3://") or not urlsplit(where).netloc:
        raise UsageError(
            f"REELVEC_FRAMES={where!r} is neither s3://bucket/prefix nor the absolute path of a "
            "folder that all nodes see"
        )
    return open_bucket(where, settings, stop or threading.Event())
