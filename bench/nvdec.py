"""Is NVDEC worth having as a second way to sample? The project's own sampler with FFmpeg's CUDA
decoder put in its place.

    python -m bench.nvdec [--processes 15] [--seconds 20] [--clip 20] [--json FILE]

Ends with 2 where there is no GPU. It makes its files, --clip seconds of a pan with cuts and grain.
All but the decoder is the sampler's: what is decoded at all, what is skipped, the resize. Each file
has a process of its own: a pass that warms up and compares planes, then each way once. Then
--processes processes sample for --seconds, all runs together.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # as in a sampler process; numpy reads it when it is imported first
)
os.environ.setdefault("SVT_LOG", "0")

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.reformatter import VideoReformatter

from demo.encoding import priority_kept
from workers.sampling.inside import decode, frame_buffer
from workers.sampling.inside.container import OpenVideo
from workers.sampling.inside.conversion import Conversion
from workers.sampling.inside.encryption import encryption_of
from workers.sampling.plan import FRAMES

FPS, SHOT_FRAMES = 30, 170
SPAWN = multiprocessing.get_context("spawn")
#: A process that takes longer than this hangs, or crashed.
LIMIT_SECONDS = 90
WEB = {"preset": "veryfast", "g": "60", "sc_threshold": "0", "x264-params": "b-pyramid=none"}
#: Encoder, height and options. Many processes sample the first two.
FILES: dict[str, tuple[str, int, dict[str, str]]] = {
    "h264-1080p.mp4": (
        "libx264",
        1080,
        WEB | {"b": "3000k", "maxrate": "4500k", "bufsize": "6000k"},
    ),
    "h264-720p.mp4": ("libx264", 720, WEB | {"b": "1500k", "maxrate": "2250k", "bufsize": "3000k"}),
    "hevc-720p.mp4": ("libx265", 720, {"preset": "veryfast", "x265-params": "log-level=none"}),
    "vp9-720p.webm": (
        "libvpx-vp9",
        720,
        {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    ),
    "av1-720p.mp4": ("libsvtav1", 720, {"preset": "10", "crf": "35"}),
}
#: Whether frames stay on the GPU until one is converted, and whether nv12 becomes RGB by way of
#: yuv420p. FFmpeg repeats each chroma sample of yuv420p and interpolates those of nv12: the same
#: planes, but RGB that differs by dozens of levels at edges. By way of yuv420p, a mere
#: rearrangement, it is the same, and quicker.
WAYS = {
    "software": None,
    "nvdec, all downloaded": (False, True),
    "nvdec, wanted downloaded": (True, True),
    "nvdec, wanted downloaded, nv12 to RGB": (True, False),
}
CROWDED = ("software", "nvdec, wanted downloaded")
HEADS = {
    "file": "file", "way": "way", "cpu_s": "CPU s", "wall_s": "wall s", "decoded": "decoded", "planes": "Y, U, V off by",
    "largest": "224 px off by", "mean": "mean", "same": "same pictures", "videos_per_s": "videos/s",
    "cpu_s_per_video": "CPU s/video", "gpu_mib": "GPU MiB", "decoder_percent": "decoder %", "error": "error",
}  # fmt: skip


class HardVideo(OpenVideo):
    """A video whose decoder is FFmpeg's CUDA one (None: its software one of the same name)."""

    accel: HWAccel | None = None

    def _start(self) -> None:
        super()._start()
        probed: Any = self.decoder
        decoder: Any = av.CodecContext.create(self.codec, "r", hwaccel=self.accel)
        if self.accel and not decoder.is_hwaccel:
            raise RuntimeError(f"no CUDA decoder for {self.codec} in this FFmpeg")
        decoder.thread_count, decoder.options = 1, probed.options
        for fact in ("extradata", "width", "height", "field_order", "reorder_depth"):
            setattr(decoder, fact, getattr(probed, fact))
        self.decoder = decoder


class PlanarSquares(Conversion):
    """From nv12, there or here, by way of yuv420p."""

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        if (frame.sw_format or frame.format).name == "nv12":
            self._planar = getattr(self, "_planar", None) or VideoReformatter()
            frame = self._planar.reformat(frame, format="yuv420p", threads=1)
        return super().__call__(frame)


@contextmanager
def sampling(way: tuple[bool, bool] | None, *, pretend: bool) -> Iterator[None]:
    """`decode.sample` decodes this way meanwhile. One CUDA context is kept for all its videos, as a
    sampler would.
    """
    if way is None:
        yield
        return
    owned, planar = way
    options: dict[str, object] = {"primary_ctx": "1"}
    accel = (
        None if pretend else HWAccel("cuda", None, False, options, is_hw_owned=owned)
    )  # False: no falling back
    _kept = av.CodecContext.create("h264", "r", hwaccel=accel)
    with (
        patch.object(HardVideo, "accel", accel),
        patch.object(decode, "OpenVideo", HardVideo),
        patch.object(frame_buffer, "Conversion", PlanarSquares if planar else Conversion),
    ):
        yield


@priority_kept()
def make(path: Path, codec: str, height: int, options: dict[str, str], seconds: int) -> None:
    chance, width = np.random.default_rng(0), height * 16 // 9
    scene = np.kron(
        chance.integers(40, 200, (height // 8, width // 8)), np.ones((16, 16), int)
    ).astype(np.uint8)
    grain = chance.integers(0, 7, (height + 64, width + 64), dtype=np.uint8)
    with av.open(path, "w") as out:
        stream: Any = out.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * FPS):
            shot, at = divmod(number, SHOT_FRAMES)
            frame, (y, x) = av.VideoFrame(width, height, "yuv420p"), chance.integers(0, 64, 2)
            luma = scene[shot * 100 % 400 + at :, shot * 60 % 300 + 2 * at :][:height, :width]
            luma = luma + grain[y:, x:][:height, :width]
            for plane, part in zip(
                frame.planes, (luma, luma[::2, ::2], 255 - luma[1::2, 1::2]), strict=True
            ):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = part  # type: ignore[call-overload]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def probe(*, pretend: bool) -> float:
    """Seconds until a process has its CUDA context. Raises where there is no GPU."""
    av.logging.set_level(
        av.logging.ERROR
    )  # FFmpeg's words come with its errors; not while an encoder has threads
    started = time.perf_counter()
    with sampling(WAYS[CROWDED[1]], pretend=pretend):
        return time.perf_counter() - started


def planes(path: Path, *, pretend: bool) -> list[int]:
    """The largest difference in Y, U and V of the first 96 frames between the two decoders."""

    def frames(opened: type[OpenVideo]) -> Iterator[tuple[np.ndarray, ...]]:
        with path.open("rb") as file, closing(opened(file, encryption_of(file))) as video:
            for packet in chain(video.packets(), [None]):
                for frame in video.decoder.decode(packet):
                    flat, luma = (
                        frame.to_ndarray().ravel().astype(np.int16),
                        frame.width * frame.height,
                    )
                    is_nv12, chroma = frame.format.name == "nv12", flat[luma:]
                    yield (
                        flat[:luma],
                        *(chroma.reshape(-1, 2).T if is_nv12 else chroma.reshape(2, -1)),
                    )

    with sampling(WAYS["nvdec, all downloaded"], pretend=pretend):
        both = islice(zip(frames(OpenVideo), frames(HardVideo), strict=False), FRAMES)
        av.logging.set_level(av.logging.ERROR)
        found = [
            [int(np.abs(a - b).max()) for a, b in zip(soft, hard, strict=True)]
            for soft, hard in both
        ]
    return [max(column) for column in zip(*found, strict=True)]


def compare(path: Path, *, pretend: bool) -> list[dict[str, Any]]:
    """A row per way; the first is the base."""
    off, rows, base = attempt(planes, path, pretend=pretend), [], None
    av.logging.set_level(None)
    for name, way in WAYS.items():
        row: dict[str, Any] = {"file": path.name, "way": name} | ({"planes": off} if way else {})
        rows.append(row)
        with sampling(way, pretend=pretend), path.open("rb") as file:
            cpu, wall = time.process_time(), time.perf_counter()
            found = attempt(decode.sample, file, "notebook")
            row |= {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        if isinstance(found, str):
            row["error"] = found
            continue
        row["decoded"] = f"{found.frames_decoded} {found.decode_mode}, {found.decode_errors} errors"
        base = base or found
        if way:
            apart = np.abs(found.pixels.astype(np.int16) - base.pixels)
            row |= {"largest": int(apart.max()), "mean": float(apart.mean())}
            row["same"] = float((apart.max(axis=(1, 2, 3)) == 0).mean())
    return rows


def work(
    paths: list[Path], way: str, seconds: float, barrier: Any, *, pretend: bool
) -> list[tuple[float, ...]]:
    """Sample each file again and again for `seconds`, all processes at once: videos, wall and CPU
    seconds.
    """
    found = []
    with sampling(WAYS[way], pretend=pretend):
        for path in paths:
            for count in range(10**9):  # the first is to warm up
                if count == 1:
                    barrier.wait(LIMIT_SECONDS / 2)
                    cpu, wall = time.process_time(), time.perf_counter()
                elif count and time.perf_counter() - wall > seconds:
                    break
                with path.open("rb") as file:
                    decode.sample(file, "notebook")
            found.append((count - 1, time.perf_counter() - wall, time.process_time() - cpu))
    return found


def crowd(
    paths: list[Path], way: str, processes: int, seconds: float, *, pretend: bool
) -> list[dict[str, Any]]:
    """A row per file: what many processes do at once, and what the GPU says in the middle of it."""
    rows: list[dict[str, Any]] = [
        {"file": path.name, "way": f"{way}, {processes} processes"} for path in paths
    ]
    memory, given = smi("memory.used"), {"pretend": pretend}
    with SPAWN.Manager() as manager, SPAWN.Pool(processes) as pool:
        barrier = manager.Barrier(processes + 1)
        asked = [
            pool.apply_async(attempt, (work, paths, way, seconds, barrier), given)
            for _ in range(processes)
        ]
        for row in rows:
            attempt(barrier.wait, LIMIT_SECONDS / 2)
            time.sleep(seconds / 2)
            row |= {
                "gpu_mib": f"{memory} to {smi('memory.used')}",
                "decoder_percent": smi("utilization.decoder"),
            }
        found = [attempt(each.get, LIMIT_SECONDS) for each in asked]
    shares = [each for each in found if not isinstance(each, str)]
    for row, *each in zip(rows, *shares, strict=False):
        row["error"] = "; ".join({words for words in found if isinstance(words, str)})
        if each:
            row["videos_per_s"] = sum(count / wall for count, wall, _ in each)
            row["cpu_s_per_video"] = sum(cpu for *_, cpu in each) / sum(count for count, *_ in each)
    return rows


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What it returns, or words for what it raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def alone(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same in a process of its own."""
    with SPAWN.Pool(1) as pool:
        return attempt(pool.apply_async(attempt, (function, *args), kwargs).get, LIMIT_SECONDS)


def smi(field: str) -> str:
    """A fact of the first GPU, or `?`."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    found = attempt(subprocess.run, command, capture_output=True, text=True, timeout=10)
    return (
        "?" if isinstance(found, str) or found.returncode else found.stdout.strip().split("\n")[0]
    )


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(HEADS.values()), ["---"] * len(HEADS)]
    for row in rows:
        cells = (
            f"{cell:.3f}" if isinstance(cell := row.get(key, ""), float) else str(cell)
            for key in HEADS
        )
        lines.append([" ".join(cell.replace("|", "/").split()) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--processes", type=int, default=15)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--clip", type=int, default=20)
    options.add_argument("--json", type=Path, default=Path("bench/results/nvdec.json"))
    options.add_argument(
        "--pretend", action="store_true", help=argparse.SUPPRESS
    )  # software in NVDEC's place
    chosen = options.parse_args()
    context = alone(probe, pretend=chosen.pretend)
    if isinstance(context, str):
        print(f"no GPU that FFmpeg can decode on here: {context}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in FILES]
        with SPAWN.Pool(len(FILES)) as pool:
            asked = [
                pool.apply_async(attempt, (make, path, *FILES[path.name], chosen.clip))
                for path in paths
            ]
            made = [attempt(each.get, LIMIT_SECONDS) for each in asked]
        for path, trouble in zip(paths, made, strict=True):
            found = trouble or alone(compare, path, pretend=chosen.pretend)
            rows += [{"file": path.name, "error": found}] if isinstance(found, str) else found
        for way in CROWDED:
            rows += crowd(
                paths[:2],
                way,
                chosen.processes,
                chosen.seconds / 2 / len(CROWDED),
                pretend=chosen.pretend,
            )
    facts = {"GPU": "pretended" if chosen.pretend else smi("name"), "driver": smi("driver_version")}
    facts |= {"cores": os.cpu_count(), "PyAV": av.__version__}
    facts |= {"Python": platform.python_version(), "clip s": chosen.clip, "context s": context}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()) + "\n\n" + table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
