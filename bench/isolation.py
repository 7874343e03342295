"""What it costs to sample in a process of its own: the same video sampled here, and there with and
without a filter.

    python -m bench.isolation [VIDEO] [--rounds 15]

Prints the table of bench/RESULTS.md. Without VIDEO it makes 60 s of 720p H.264. The ways take turns
within each round; CPU is that of this process and of the sampler together, its tidying after the
video included. Decoding takes a few percent more or less from one process to the next, so the last
row has what isolation alone takes: the same file read and as many frames handed over, with nothing
decoded.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # as in a sampler process; numpy reads it when it is imported first
)

import argparse
import contextlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import av
import numpy as np

from db.media import MediaFacts
from workers.sampling.frames import Decoded
from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.decode import sample
from workers.sampling.inside.opening import BUFFER_BYTES
from workers.sampling.plan import FRAMES, SHAPE
from workers.sampling.pool import SamplerPool

WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 60
#: A sampler with one thing changed.
PROGRAM = """#!{python} -I
import sys
sys.path.append({folder!r})
import isolation
from workers.sampling.inside import decode, process, seccomp
{change}
process.main(sys.argv[4:])
"""
READS = 20


class FileSource:
    """A `ByteSource` of a file, read without any of the storage client's work."""

    etag = None
    open_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size_bytes = path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cost(NamedTuple):
    cpu_seconds: float
    wall_seconds: float


def make_clip(path: Path) -> Path:
    """A texture that pans, changes and has grain, as quick presets encode it: about 20 s of
    work.
    """
    chance = np.random.default_rng(0)
    coarse = np.kron(chance.integers(40, 200, (90, 240)), np.ones((16, 16), int)).astype(np.uint8)
    grain = chance.integers(0, 12, (HEIGHT + 64, WIDTH + 64), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FPS * SECONDS):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            top, left = number * 3 % 700, number * 5 % 2400
            y, x = chance.integers(0, 64, 2)
            luma = (
                coarse[top : top + HEIGHT, left : left + WIDTH]
                + grain[y : y + HEIGHT, x : x + WIDTH]
            )
            for plane, picture in zip(
                frame.planes,
                (luma, luma[::2, ::2] // 2 + 64, luma[1::2, 1::2] // 2 + 64),
                strict=True,
            ):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = picture
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def only_read(file: ByteFile, _: str, out: np.ndarray) -> Decoded:
    """Read a whole file as FFmpeg reads it, and decode nothing."""
    file.seek(0)
    while file.read(BUFFER_BYTES):
        pass
    out[:] = 7
    return Decoded(
        out,
        np.zeros(FRAMES, int),
        np.zeros(FRAMES),
        MediaFacts("none", 1, 1, 1.0, 1.0),
        frame_count=1,
        frames_decoded=1,
        decode_mode="full",
        decode_errors=0,
        damaged_share=0.0,
        decode_seconds=0.0,
    )


@contextlib.contextmanager
def samplers(folder: Path, change: str = "") -> Iterator[SamplerPool]:
    """One sampler, started."""
    shipped = sys.executable
    if change:
        program = folder / "changed"
        program.write_text(
            PROGRAM.format(python=shipped, folder=str(Path(__file__).parent), change=change)
        )
        program.chmod(0o755)
        sys.executable = str(program)
    pool = SamplerPool(1, wall_seconds=600, cpu_seconds=600)
    while not pool.pids():
        time.sleep(0.01)
    sys.executable = shipped
    try:
        yield pool
    finally:
        pool.close()


def cpu_seconds(pid: int) -> float:
    """CPU of another process so far; see clock_getcpuclockid(3) of Linux."""
    return time.clock_gettime(~pid << 3 | 2)


def measure(run: Callable[[], object], pid: int | None = None) -> Cost:
    cpu = time.process_time() + (cpu_seconds(pid) if pid else 0)
    started = time.perf_counter()
    run()
    wall = time.perf_counter() - started
    time.sleep(0.1)  # a sampler tidies up
    return Cost(time.process_time() + (cpu_seconds(pid) if pid else 0) - cpu, wall)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("video", type=Path, nargs="?")
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = chosen.video or make_clip(folder / "clip.mp4")
        path_bytes = path.stat().st_size
        out = np.empty(SHAPE, np.uint8)

        def here(sample: Callable[..., Decoded], times: int = 1) -> None:
            for _ in range(times):
                with path.open("rb") as file:
                    sample(file, "notebook", out)

        def there(pool: SamplerPool, times: int = 1) -> None:
            for _ in range(times):
                with FileSource(path) as source:
                    pool.sample(source, "notebook")

        with samplers(folder, "decode.sample = isolation.only_read") as reading:
            there(reading)
            alone = measure(partial(there, reading, READS), reading.pids()[0])
            base_alone = measure(partial(here, only_read, READS))
        bare = stack.enter_context(samplers(folder, "seccomp.install = lambda: False"))
        full = stack.enter_context(samplers(folder))
        named = {
            "in this process": partial(here, sample),
            "in a sampler without seccomp": partial(there, bare),
            "in a sampler": partial(there, full),
        }
        for run in named.values():
            run()
        pids = {"in a sampler without seccomp": bare.pids()[0], "in a sampler": full.pids()[0]}
        costs: dict[str, list[Cost]] = {name: [] for name in named}
        for number in range(chosen.rounds):
            for name in sorted(named, reverse=bool(number % 2)):
                costs[name].append(measure(named[name], pids.get(name)))
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()},"
        f" {path_bytes / 1e6:.1f} MB, median of {chosen.rounds} rounds, seccomp {bare.has_seccomp} "
        f"and {full.has_seccomp}\n"
    )
    print("| sampled | CPU | overhead | wall | overhead |\n|---|---|---|---|---|")
    base = costs["in this process"]
    for name, found in costs.items():
        cells = []
        for field in Cost._fields:
            # each round against its own: what else the machine does changes from round to round
            more = median(
                getattr(one, field) / getattr(other, field) - 1
                for one, other in zip(found, base, strict=True)
            )
            cells += [
                f"{median(getattr(one, field) for one in found):.3f} s",
                f"{more:+.1%}" if found is not base else "",
            ]
        print(f"| {name} | {' | '.join(cells)} |")
    cells = []
    for field in Cost._fields:
        added = (getattr(alone, field) - getattr(base_alone, field)) / READS
        cells += [f"{added:.3f} s", f"{added / median(getattr(one, field) for one in base):+.1%}"]
    print(f"| isolation alone | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
