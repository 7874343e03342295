"""Videos named on the command line of `embed` and `sample`, which read them right here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from db import settings
from db.errors import UsageError
from db.masking import mask
from producer.local.targets import targets
from producer.sources.uris import canonical
from workers import settings as worker_settings
from workers.sampling.frames import FrameSource
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.sources.s3_endpoint import endpoint
from workers.sources.schemes import Naming, naming_of
from workers.sources.storage import Storage


class Named(NamedTuple):
    """`shown`: a file as it was named, an address as it is read, without signatures. `warning`:
    what was left out of it.
    """

    uri: str
    shown: str
    warning: str | None


def named(file: str) -> Named:
    """Raises `UsageError` for what is no address."""
    try:
        place = canonical(file, base=Path.cwd(), s3_endpoint=endpoint().host)
    except ValueError as error:
        raise UsageError(f"{mask(file)!r}: {error}") from error
    is_file = naming_of(place.uri) is Naming.PATH
    return Named(place.uri, file if is_file else place.uri, place.warning)


class LocalVideos:
    """The videos named, and, once entered, their frames: any folder may be read here, by one
    sampler process; `stills`: pictures, too. Raises `UsageError` for what is no address.
    """

    def __init__(self, files: Sequence[str], *, stills: bool = False) -> None:
        worker_settings.refuse_unknown()
        self._settings = settings.load(WorkerSettings)
        self.videos = [named(file) for file in files]
        self._stills = stills
        self._stack = ExitStack()

    def _targets(self, option: str, given: Path | None, suffix: str) -> list[Path]:
        """A path for each video, as `targets` says; none where none is asked for."""
        return targets(option, given, suffix, [video.uri for video in self.videos]) if given else []

    def __enter__(self) -> Self:
        pool = SamplerPool(
            1,
            wall_seconds=self._settings.sampling_wall_seconds,
            cpu_seconds=self._settings.sampling_cpu_seconds,
        )
        self._stack.callback(pool.close)
        storage = self._stack.enter_context(Storage(self._settings, roots=None))
        self._source = Videos(storage, pool, stills=self._stills)
        return self

    def open(self, number: int) -> AbstractContextManager[FrameSource]:
        """The video of this number. Raises as `Storage.open`."""
        return self._source.open(self.videos[number].uri)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
