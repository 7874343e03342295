"""Any number of videos to work on, with the vectors they must get: a web server of small clips
behind a proxy.

The proxy is what keeps workers busy: `hop.slow(...)` makes every video take its time without taking
a core, and `hop.freeze()` keeps every place of every worker taken for as long as a test likes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from producer.sources.reading import VideoRow
from tests.golden_run import probe_vectors, small_clips
from tests.http_server import WebServer, serving
from tests.proxy import Proxy

Vector = npt.NDArray[np.float32]
#: So many files of their own: two videos that are worked on at once never have the same vector.
CLIPS = 16


@dataclass
class Footage:
    """`golden`: the vector of every video that was made, by its address."""

    web: WebServer
    hop: Proxy
    clips: list[tuple[bytes, Vector]]
    golden: dict[str, Vector] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextmanager
    def made(cls, folder: Path) -> Iterator[Self]:
        """Make the clips in `folder`, compute their vectors in this process, serve them."""
        paths = small_clips(folder / "footage", CLIPS)
        vectors = probe_vectors(paths)
        with serving() as web, Proxy(f"127.0.0.1:{web.port}") as hop:
            yield cls(web, hop, [(path.read_bytes(), vectors[path.as_uri()]) for path in paths])

    def more(self, count: int) -> list[VideoRow]:
        """`count` videos nobody has seen before."""
        rows = []
        for number in itertools.islice(self._numbers, count):
            body, vector = self.clips[number % len(self.clips)]
            path = f"/{number:06}.mp4"
            self.web.files[path] = body
            uri = f"http://{self.hop.endpoint}{path}"
            self.golden[uri] = vector
            rows.append(VideoRow(uri, title=f"video {number}"))
        return rows
