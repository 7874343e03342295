"""From a file to 96 frames of 224 x 224: reelvec's samplers against what else there is, each by its
fastest way.

    python -m bench.sampling [FILE ...] [--runs 3] [--folder FOLDER]

Rivals are measured where they are installed and named where they are not: pip install
torchcodec==0.13 decord opencv-python-headless (torchcodec also wants the system's FFmpeg
libraries). `bare` is no rival but a floor: PyAV's own loop over the key frames that `keyframes` takes
and nothing else, resized as reelvec does it.

Without FILE it makes its own (bench/footage.py; minutes), in FOLDER if that is given, and keeps
them there. Every figure is of a fresh process, one thread each, the samplers taking turns; what is
measured begins after imports and, for reelvec, with an idle sampler process. Medians of the runs.
reelvec's frames are compared with those of decoding everything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from workers.sampling.plan import SIDE_PX, nearest, plan

#: Every library one thread: what is measured is work, not cores.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1",
}


class Facts:
    """What every rival is told beforehand: which frames, and the size whose centre is cut out."""

    def __init__(self, path: str) -> None:
        import av

        with av.open(path) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or 0)
            seconds = (
                float(stream.duration * stream.time_base)  # type: ignore[operator]
                if stream.duration
                else (container.duration or 0) / av.time_base
            )
            count = stream.frames or int(seconds * fps)
            width, height = stream.width, stream.height
        self.fps = fps
        self.indices = plan("notebook", fps=fps, duration_seconds=seconds, frame_count=count)
        short = min(width, height)
        self.width, self.height = SIDE_PX * width // short, SIDE_PX * height // short
        self.left, self.top = (self.width - SIDE_PX) // 2, (self.height - SIDE_PX) // 2

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """The centre of frames that were scaled, `[..., height, width, 3]`."""
        return frames[..., self.top : self.top + SIDE_PX, self.left : self.left + SIDE_PX, :]


def notebook(path: str) -> Callable[[], np.ndarray]:
    """The loop this project began as: decode on to the last wanted frame, one by one."""
    import av

    facts = Facts(path)

    def run() -> np.ndarray:
        wanted, pictures = set(facts.indices.tolist()), {}
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    pictures[number] = picture.resize(
                        (facts.width, facts.height), Image.Resampling.BILINEAR
                    )
                if number >= facts.indices[-1]:
                    break
        last = max(pictures)
        return facts.cut(
            np.stack([np.asarray(pictures[min(number, last)]) for number in facts.indices.tolist()])
        )

    return run


def torchcodec(path: str) -> Callable[[], np.ndarray]:
    """Its own scaling on the way; approximate seeking, which does not scan the file first."""
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import CenterCrop, Resize

    facts = Facts(path)
    torch.set_num_threads(1)

    def run() -> np.ndarray:
        scaled = [Resize((facts.height, facts.width)), CenterCrop((SIDE_PX, SIDE_PX))]
        decoder = VideoDecoder(
            path, dimension_order="NHWC", seek_mode="approximate", transforms=scaled
        )
        frames: np.ndarray = decoder.get_frames_at(facts.indices.tolist()).data.numpy()
        return frames

    return run


def decord(path: str) -> Callable[[], np.ndarray]:
    import decord

    facts = Facts(path)

    def run() -> np.ndarray:
        reader = decord.VideoReader(path, num_threads=1, width=facts.width, height=facts.height)
        return facts.cut(reader.get_batch(facts.indices.tolist()).asnumpy())

    return run


def opencv(path: str) -> Callable[[], np.ndarray]:
    """Frames that are not wanted are grabbed only: decoded, not converted."""
    import cv2

    facts = Facts(path)
    cv2.setNumThreads(1)

    def run() -> np.ndarray:
        wanted, frames = set(facts.indices.tolist()), {}
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        for number in range(int(facts.indices[-1]) + 1):
            if not capture.grab():
                break
            if number in wanted:
                frame = cv2.resize(
                    capture.retrieve()[1],
                    (facts.width, facts.height),
                    interpolation=cv2.INTER_LINEAR,
                )
                frames[number] = facts.cut(frame)[..., ::-1]
        last = max(frames)
        return np.stack([frames[min(number, last)] for number in facts.indices.tolist()])

    return run


def bare(path: str) -> Callable[[], np.ndarray]:
    """The least that key frames can cost with this decoder, whoever asks for them."""
    import av
    from av.stream import Discard

    from workers.sampling.inside.conversion import Conversion
    from workers.sampling.inside.geometry import AS_STORED

    facts = Facts(path)

    def run() -> np.ndarray:
        frames = np.empty((len(facts.indices), SIDE_PX, SIDE_PX, 3), np.uint8)
        with av.open(path) as container:
            stream = container.streams.video[0]
            decoder, rate = stream.codec_context, facts.fps * float(stream.time_base or 0)
            decoder.thread_count = 1
            for each in container.streams:
                each.discard = Discard.nonkey if each.index == stream.index else Discard.all
            convert = Conversion(stream.width, stream.height, AS_STORED)
            first = stream.start_time or 0
            keys = (
                (round(((packet.pts or 0) - first) * rate), packet)
                for packet in container.demux(stream)
                if packet.size
            )
            for _, packet, slots in nearest(facts.indices.tolist(), keys):
                for frame in (*decoder.decode(packet), *decoder.decode(None)):
                    frames[slots.start : slots.stop] = convert(frame)
                decoder.flush_buffers()
        return frames

    return run


#: reelvec, by sampling policy.
OURS = {"reelvec": "notebook", "keyframes": "keyframes"}
RIVALS = {
    "torchcodec": torchcodec,
    "decord": decord,
    "opencv": opencv,
    "notebook": notebook,
    "bare": bare,
}
PACKAGES = {
    "torchcodec": "torchcodec",
    "decord": "decord",
    "opencv": "opencv-python-headless",
    "notebook": "av",
    "bare": "av",
}


def measured_rival(name: str, path: str) -> dict[str, float]:
    run = RIVALS[name](path)
    bytes_before, cpu, wall = _bytes_read(), time.process_time(), time.perf_counter()
    frames = run()
    assert frames.shape == (96, SIDE_PX, SIDE_PX, 3), frames.shape
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "bytes": _bytes_read() - bytes_before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measured_reelvec(path: str, policy: str) -> dict[str, float]:
    """As a worker does it: a sampler process of its own, and this one, which reads the file for
    it.
    """
    import psutil

    from workers.sampling.pool import SamplerPool
    from workers.sources.file import open_file

    pool = SamplerPool(1, wall_seconds=600, cpu_seconds=600)
    try:
        child = psutil.Process(_ready(pool))
        before, cpu, wall = sum(child.cpu_times()[:2]), time.process_time(), time.perf_counter()
        with open_file(Path(path).resolve().as_uri(), None) as source:
            sample = pool.sample(source, policy)
        return {
            "cpu": time.process_time() - cpu + sum(child.cpu_times()[:2]) - before,
            "wall": time.perf_counter() - wall,
            "bytes": sample.bytes_read,
            "peak": _peak_bytes(child.pid),
            "decoded": sample.frames_decoded,
            "identical": _is_identical(path, sample.indices.tolist(), sample.pixels),
        }
    finally:
        pool.close()


def _ready(pool: Any) -> int:
    """Process id of the one sampler, once it waits for work."""
    with tempfile.TemporaryDirectory() as folder:
        import av

        from workers.sources.file import open_file

        tiny = Path(folder) / "tiny.mp4"
        with av.open(tiny, "w") as out:
            stream = out.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 64
            out.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
            out.mux(stream.encode())
        with open_file(tiny.as_uri(), None) as source:
            pool.sample(source, "notebook")
    return int(pool.pids()[0])


def _is_identical(path: str, indices: list[int], frames: np.ndarray) -> bool:
    """Whether these are the frames of decoding everything, resized by the same resampler."""
    import av

    from workers.sampling.inside.geometry import view_of
    from workers.sampling.inside.resample import Resampler

    resample, last = None, frames[0]
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in indices:
                if resample is None:
                    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
                    view = view_of(
                        None if matrix is None else bytes(matrix), stream.sample_aspect_ratio
                    )
                    resample = Resampler(frame.width, frame.height, view)
                last = resample(frame.to_ndarray(format="rgb24").reshape(frame.height, -1))
                if not np.array_equal(last, frames[indices.index(number)]):
                    return False
            if number >= indices[-1]:
                break
    return np.array_equal(last, frames[-1])


def _bytes_read() -> int:
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["rchar"])


def _peak_bytes(pid: int) -> int:
    facts = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(facts["VmHWM"].split()[0]) * 1024


def in_own_process(name: str, path: Path) -> dict[str, float] | str:
    """The figures, or the last line of what went wrong."""
    command = [sys.executable, "-m", "bench.sampling", "--one", name, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | ONE_THREAD, check=False
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(files: list[Path], runs: int) -> None:
    names = [*OURS, *(name for name in RIVALS if _is_installed(name))]
    results: dict[Path, dict[str, list[dict[str, float]]]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("sampling", total=len(files) * runs * len(names))
        for path in files:
            results[path] = {name: [] for name in names}
            for _ in range(runs):
                for name in names:
                    figures = in_own_process(name, path)
                    if isinstance(figures, str):
                        progress.console.print(f"{name} on {path.name}: {figures}")
                    else:
                        results[path][name].append(figures)
                    progress.advance(task)
    _print(results, names)


def _print(results: dict[Path, dict[str, list[dict[str, float]]]], names: list[str]) -> None:
    def median(path: Path, name: str, what: str) -> float | None:
        values = [figures[what] for figures in results[path][name]]
        return statistics.median(values) if values else None

    def shown(value: float | None, unit: float = 1, digits: int = 2) -> str:
        return "-" if value is None else f"{value / unit:.{digits}f}"

    used = ", ".join(
        f"{package} {version(package)}"
        for package in dict.fromkeys(PACKAGES[name] for name in names if name in RIVALS)
    )
    missing = ", ".join(PACKAGES[name] for name in RIVALS if name not in names) or "none"
    print(f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, "
    f"{used};"
          f" not installed: {missing}. {datetime.now(UTC):%Y-%m-%d}.\n")  # fmt: skip
    print(
        f"| file | {' | '.join(f'{name} CPU s' for name in names)} | of torchcodec | keyframes of "
        "reelvec | bare of reelvec | identical | frames decoded |"
    )
    print(f"|---|{'---|' * (len(names) + 5)}")
    ratios, key_ratios, floors = [], [], []
    for path in results:
        mine, theirs = (
            median(path, "reelvec", "cpu"),
            "torchcodec" in names and median(path, "torchcodec", "cpu"),
        )
        ratio = mine / theirs if mine and theirs else None
        ratios += [ratio] if ratio else []
        keys = median(path, "keyframes", "cpu")
        key_ratio = keys / mine if keys and mine else None
        key_ratios += [key_ratio] if key_ratio else []
        least = median(path, "bare", "cpu")
        floor = least / mine if least and mine else None
        floors += [floor] if floor else []
        figures = [shown(median(path, name, "cpu")) for name in names]
        same = all(run["identical"] for name in OURS for run in results[path][name])
        decoded = ", ".join(shown(median(path, name, "decoded"), digits=0) for name in OURS)
        print(
            f"| {path.name} | {' | '.join(figures)} | {shown(ratio)} | {shown(key_ratio)} | {shown(floor)} | "
            f"{'yes' if same else 'NO'} | {decoded} |"
        )
    if ratios:
        print(f"\nMedian of torchcodec's CPU: {statistics.median(ratios):.2f}")
    if key_ratios:
        print(
            f"\nMedian of reelvec's CPU: keyframes {statistics.median(key_ratios):.2f}, its floor "
            f"{statistics.median(floors):.2f}"
        )
    for title, what, unit in (
        ("Wall s", "wall", 1.0),
        ("MB read", "bytes", 1e6),
        ("Peak memory MB", "peak", 1e6),
    ):
        print(f"\n| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for path in results:
            print(
                f"| {path.name} | "
                f"{' | '.join(shown(median(path, name, what), unit, 1) for name in names)} |"
            )


def _is_installed(name: str) -> bool:
    try:
        version(PACKAGES[name])
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        path = str(chosen.files[0])
        figures = (
            measured_reelvec(path, OURS[chosen.one])
            if chosen.one in OURS
            else measured_rival(chosen.one, path)
        )
        print(json.dumps(figures))
        return
    if chosen.files:
        compare(chosen.files, chosen.runs)
        return
    from bench.footage import FOOTAGE

    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        compare([footage.make(folder, 60) for footage in FOOTAGE], chosen.runs)


if __name__ == "__main__":
    main()
