"""Bytes and time that sampling takes over a network: long videos over HTTP and S3, fast links and
slow ones.

    python -m bench.bytes [--keep FOLDER]

Makes a clip of 720p, 2.2 Mbit/s, and from its packets an mp4 (index last, index first) and an mkv
of 2, 43 and 120 minutes; serves them over HTTP and, those of up to 43 minutes, over S3 (the tests'
Swift); prints the table of bench/RESULTS.md. `ratio` is to what a perfect reader needs: the file up
to its last picture of the first minute and its index. `fetching` is time spent in reads, most of it
while the sampler decodes; `waiting` is how long the sampler stood still for bytes. About 4 GB of
the temporary folder are in use at a time; `--keep FOLDER` puts all files (9 GB) there instead and
uses those it finds.
"""

from __future__ import annotations

import argparse
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from db import settings
from tests import s3_server
from tests.http_server import Handler, WebServer, serving
from tests.long_videos import lengthen, needed_bytes
from workers.sampling.frames import Frames
from workers.sampling.pool import SamplerPool
from workers.settings import WorkerSettings
from workers.sources.remote import FIRST_BYTES
from workers.sources.storage import ByteSource, Storage

CLIP_SECONDS, FPS, WIDTH_PX, HEIGHT_PX = 32, 25, 1280, 720
VIDEO_BITS, SOUND_BITS = 2_080_000, 96_000
MINUTES = (2, 43, 120)
#: Name, ending, options of the container.
KINDS = (
    ("mp4, index last", "mp4", {}),
    ("mp4, index first", "mp4", {"movflags": "faststart"}),
    ("mkv", "mkv", {}),
)
S3_MINUTES = 43
#: Seconds before each answer, bits per second.
SLOW_LINKS = ((0.02, 1e9), (0.02, 1e8), (0.05, 1e9))
PIECE_BYTES = 1 << 16


def make_clip(path: Path) -> None:
    """A pan over a coarse pattern with hissing sound: as many bits as a film at this size has."""
    random = np.random.default_rng(1)
    world = (
        random.integers(0, 255, (HEIGHT_PX // 4, WIDTH_PX // 4, 3), dtype=np.uint8)
        .repeat(8, 0)
        .repeat(8, 1)
    )
    with av.open(path, "w") as container:
        options = {"preset": "veryfast", "maxrate": "2500k", "bufsize": "5000k"}
        video: Any = container.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt, video.bit_rate = (
            WIDTH_PX,
            HEIGHT_PX,
            "yuv420p",
            VIDEO_BITS,
        )
        sound: Any = container.add_stream("aac", rate=48_000, layout="stereo")
        sound.bit_rate = SOUND_BITS
        for number in range(CLIP_SECONDS * FPS):
            left, top = number * 3 % WIDTH_PX, number * 2 % HEIGHT_PX
            picture = np.ascontiguousarray(world[top : top + HEIGHT_PX, left : left + WIDTH_PX])
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        for start in range(0, CLIP_SECONDS * 48_000, 1024):
            hiss = (random.standard_normal((2, 1024)) * 0.1).astype(np.float32)
            piece = av.AudioFrame.from_ndarray(hiss, format="fltp", layout="stereo")
            piece.sample_rate, piece.pts = 48_000, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode())


class Counted:
    """A source whose requests are counted: opening it is one, every read beyond the first block
    another.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size_bytes, self.open_seconds, self.etag = (
            source.size_bytes,
            source.open_seconds,
            source.etag,
        )
        self.requests = 1

    def read(self, offset: int, length: int) -> bytes:
        self.requests += offset + length > FIRST_BYTES
        return self._source.read(offset, length)


def at_work_seconds(pid: int) -> float:
    """Time that a process ran or waited for a free core. The rest of its time it waited for
    something else: for bytes.
    """
    ran, queued, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    return (int(ran) + int(queued)) / 1e9


@dataclass
class Paced:
    """A connection's writing end that lets through so many bits per second."""

    file: Any
    bits_per_second: float
    free_at: float = 0.0

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self.free_at = (
                max(self.free_at, time.monotonic()) + len(piece) * 8 / self.bits_per_second
            )
            time.sleep(max(0.0, self.free_at - time.monotonic()))
            self.file.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def slow(server: WebServer, latency_seconds: float, bits_per_second: float) -> None:
    def bend(handler: Handler) -> bool:
        time.sleep(latency_seconds)
        if not isinstance(handler.wfile, Paced):
            handler.wfile = Paced(handler.wfile, bits_per_second)
        return False

    server.bend = bend


class Bench:
    """Samples one source after the other and prints a row for each."""

    def __init__(self, storage: Storage, pool: SamplerPool) -> None:
        self._storage, self._pool = storage, pool

    def sample(self, uri: str) -> tuple[Frames, int, float, float]:
        """The sample, its requests, the seconds it took, and those that the sampler stood still."""
        (pid,) = self._pool.pids()
        started, before = time.monotonic(), at_work_seconds(pid)
        with self._storage.open(uri) as source:
            counted = Counted(source)
            sample = self._pool.sample(counted, "notebook")  # type: ignore[arg-type]
            seconds = time.monotonic() - started
            return sample, counted.requests, seconds, seconds - at_work_seconds(pid) + before

    def row(self, link: str, name: str, uri: str, needed: int) -> None:
        sample, requests, seconds, waited_seconds = self.sample(uri)
        cells = (
            name,
            link,
            f"{sample.bytes_read:,}",
            requests,
            f"{sample.bytes_read / needed:.3f}",
            f"{sample.fetch_seconds:.2f}",
            f"{waited_seconds:.2f}",
            f"{seconds:.2f}",
            f"{sample.decode_seconds:.2f}",
        )
        print("|", " | ".join(map(str, cells)), "|", flush=True)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def measure(bench: Bench, path: Path, name: str, minutes: int, s3: s3_server.S3Server) -> None:
    needed = needed_bytes(path)
    bench.row("file", name, path.as_uri(), needed)
    with mapped(path) as view, serving(files={"/v": view}) as server:
        bench.row("HTTP", name, server.url("/v"), needed)
    if minutes <= S3_MINUTES:
        bucket = s3.bucket()
        s3.client.fput_object(bucket, "v", str(path), part_size=16 << 20)
        bench.row("S3", name, f"s3://{bucket}/v", needed)
        s3.client.remove_object(bucket, "v")
    if minutes == S3_MINUTES:
        for latency_seconds, bits_per_second in SLOW_LINKS:
            with mapped(path) as view, serving(files={"/v": view}) as server:
                slow(server, latency_seconds, bits_per_second)
                link = f"HTTP, {latency_seconds * 1000:.0f} ms, {bits_per_second / 1e6:.0f} Mbit/s"
                bench.row(link, name, server.url("/v"), needed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", metavar="FOLDER", type=Path)
    keep: Path | None = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="bytes-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        clip = folder / "clip.mp4"
        if not clip.exists():
            make_clip(clip)
        print(
            "| file | link | bytes | requests | ratio | fetching s | waiting s | wall s | decode "
            "CPU s |"
        )
        print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
        with s3_server.running(Path(temporary) / "s3") as s3:
            os.environ.update(s3.environment, REELVEC_HTTP_ALLOW_PRIVATE="true")
            pool = SamplerPool(1, wall_seconds=120, cpu_seconds=60)
            with Storage(settings.load(WorkerSettings), roots=None) as storage:
                with storage.open(clip.as_uri()) as source:
                    pool.sample(
                        source, "notebook"
                    )  # now the process is up and its libraries are in memory
                bench = Bench(storage, pool)
                for minutes in MINUTES:
                    for kind, ending, options in KINDS:
                        path = folder / f"{minutes} min, {kind}.{ending}"
                        if not path.exists():
                            lengthen(clip, path, seconds=60 * minutes, options=options)
                        measure(bench, path, f"{minutes} min {kind}", minutes, s3)
                        if keep is None:
                            path.unlink()
            pool.close()


if __name__ == "__main__":
    main()
