"""Videos named on the command line of `embed` and `sample`, which read them right here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from db.errors import UsageError
from db.logs import mask
from producer.sources.uris import canonical
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.sources.s3_endpoint import endpoint
from workers.sources.storage import Storage


class Named(NamedTuple):
    """`shown`: a file as it was named, an address as it is read, without signatures. `warning`:
    what was left out of it.
    """

    uri: str
    shown: str
    warning: str | None


def named(files: Sequence[str]) -> list[Named]:
    """Raises `UsageError` for what is no address."""
    return [_named(file) for file in files]


def _named(file: str) -> Named:
    try:
        place = canonical(file, base=Path.cwd(), s3_endpoint=endpoint().host)
    except ValueError as error:
        raise UsageError(f"{mask(file)!r}: {error}") from error
    return Named(place.uri, file if place.uri.startswith("file:") else place.uri, place.warning)


@contextmanager
def reading(settings: WorkerSettings) -> Iterator[Videos]:
    """Their frames: any folder may be read here, by one sampler process."""
    pool = SamplerPool(
        1, wall_seconds=settings.sampling_wall_seconds, cpu_seconds=settings.sampling_cpu_seconds
    )
    try:
        with Storage(settings, roots=None) as storage:
            yield Videos(storage, pool)
    finally:
        pool.close()
