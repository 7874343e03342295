"""Whole videos as a source of frames: their bytes are read here, and a sampler decodes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from workers.sampling.frames import Frames, FrameSource
from workers.sampling.pool import SamplerPool
from workers.sources.source import ByteSource
from workers.sources.storage import Storage


class Videos:
    """Everything that `storage` can open, sampled by a process of `samplers`; `stills`: pictures,
    too.
    """

    def __init__(self, storage: Storage, samplers: SamplerPool, *, stills: bool = False) -> None:
        self._storage = storage
        self._samplers = samplers
        self._stills = stills

    @contextmanager
    def open(self, uri: str) -> Iterator[FrameSource]:
        """A canonical uri. Raises as `Storage.open`."""
        with self._storage.open(uri) as source:
            yield Video(source, self._samplers, stills=self._stills)


class Video:
    """A `FrameSource`: the bytes of one video that is open."""

    def __init__(self, source: ByteSource, samplers: SamplerPool, *, stills: bool = False) -> None:
        self._source = source
        self._samplers = samplers
        self._stills = stills
        self.etag = source.etag
        self.size_bytes = source.size_bytes

    def frames(self, policy: str, *, stop: threading.Event | None = None) -> Frames:
        return self._samplers.sample(self._source, policy, stop=stop, stills=self._stills)
