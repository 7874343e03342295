"""Videos that the page reads itself, for a sheet of frames or a search by a file: one after the
other, decoded in a sampler like every video, with a deadline. Other pages wait for none of it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import anyio
from anyio import to_thread

from db import settings
from db.errors import BusyError, ReelvecError, VideoError
from workers.sampling.frames import FrameSource
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Video, Videos
from workers.settings import WorkerSettings
from workers.sources.retrying import Cancelled
from workers.sources.storage import Storage

T = TypeVar("T")

#: What may be sent to search by.
UPLOAD_BYTES = 256 << 20
#: For one video, from the moment that it is its turn; and how long a turn is waited for.
DEADLINE_SECONDS, PATIENCE_SECONDS = 30.0, 10.0


def told(error: ReelvecError | Cancelled) -> str:
    """Why a video was not read, in words; after the code that it would fail with, if it has one."""
    if isinstance(error, Cancelled):
        return f"fetch_timeout: it could not be read within {DEADLINE_SECONDS:g} s"
    return f"{error.code}: {error}" if isinstance(error, VideoError) else str(error)


class Turns:
    """One piece of work at a time. Everything here is of one event loop."""

    def __init__(
        self,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._turn = anyio.Lock()
        self._deadline_seconds = deadline_seconds
        self._patience_seconds = patience_seconds

    async def take(self, work: Callable[[threading.Event], T]) -> T:
        """What `work` returns, which runs in a thread and gives up once its event is set. Raises
        `BusyError` where the turn does not come.
        """
        try:
            with anyio.fail_after(self._patience_seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise BusyError("another video is being read, one at a time") from None
        stop = threading.Event()
        timer = asyncio.get_running_loop().call_later(self._deadline_seconds, stop.set)
        try:
            return await to_thread.run_sync(work, stop)
        finally:
            timer.cancel()
            self._turn.release()


class Upload:
    """A `ByteSource`: an open file that somebody has sent, which has no name here."""

    etag = None
    open_seconds = 0.0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = file.seek(0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        """It is closed by whoever took it in."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Reader:
    """One sampler, started with the first video. `any_folder`: files may lie anywhere, as for the
    workers of the local stack, and else below `REELVEC_FILE_ROOTS`.
    """

    def __init__(self, *, any_folder: bool) -> None:
        self.settings = settings.load(WorkerSettings)
        self._roots: tuple[Path, ...] | None = None if any_folder else self.settings.roots
        self._samplers: SamplerPool | None = None
        self._lock = threading.Lock()

    @contextmanager
    def open(self, uri: str, stop: threading.Event) -> Iterator[FrameSource]:
        """A canonical uri. Raises as `Storage.open`."""
        with (
            Storage(self.settings, roots=self._roots, stop=stop) as storage,
            Videos(storage, self._pool()).open(uri) as source,
        ):
            yield source

    def sent(self, file: BinaryIO) -> FrameSource:
        """A file that was sent: a video or a picture."""
        return Video(Upload(file), self._pool(), stills=True)

    def _pool(self) -> SamplerPool:
        with self._lock:
            if self._samplers is None:
                self._samplers = SamplerPool(
                    1,
                    wall_seconds=DEADLINE_SECONDS,
                    cpu_seconds=self.settings.sampling_cpu_seconds,
                )
            return self._samplers

    def close(self) -> None:
        with self._lock:
            if self._samplers is not None:
                self._samplers.close()
            self._samplers = None
