"""The engine alone: windows per second with frames from memory, as a fraction of the device's
measured matrix rate.

    python -m bench.engine [--seconds 5] [--batches 4 1] [--compile auto off] [--weights
    random-full] [--json FILE]

Prints the tables of bench/RESULTS.md and writes them as JSON. On a GPU the full-size models, else
the small ones. Threads submit one video after the other, each in frames of its own, as the tasks of
a worker do: to one backbone, then to all of them, which share the frames. The notebook's way, on
the same device: one video at a time, in float32, its text tower run for every video, its pixels
made before the clock starts.

Beside speed: the cosine of bfloat16 vectors, made in company, with float32 ones made alone; and
what memory grows by over so many windows (`--grow`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from bench import pipeline_notebook
from producer.categories import label_sets_shipped
from workers.backbones import registry
from workers.engine.device import Device
from workers.engine.encoding import EncodeRequest
from workers.engine.engine import Encoding, Engine, ModelKey
from workers.engine.lanes import Item, Piece
from workers.sampling.plan import SHAPE

NOTEBOOK = pipeline_notebook.BACKBONES
#: GFLOP of a window at full size: 24 N d^2 + 4 N^2 d per layer of N tokens, TimeSformer's temporal
#: branch with it.
GFLOP = {
    "vivit": 903.1,
    "timesformer": 391.7,
    "videomae": 360.7,
    "x-clip": 1134.7,
    "vjepa2": 2877.0,
    "siglip2": 283.2,
}
WARM_SECONDS = 2.0
#: Videos in flight.
THREADS = {True: 24, False: 4}
JSON_FILE = Path(__file__).with_name("results") / "engine.json"
console = Console(stderr=True, highlight=False, soft_wrap=True)


def matrix_rate(on_gpu: bool) -> float:
    """FLOP/s of a large product: 8192^3 in bfloat16 on a GPU, 2048^3 in float32 on the CPU."""
    import torch

    side, dtype = (8192, torch.bfloat16) if on_gpu else (2048, torch.float32)
    device = "cuda" if on_gpu else "cpu"
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(25):
        _wait(on_gpu)
        started = time.perf_counter()
        one @ other
        _wait(on_gpu)
        times.append(time.perf_counter() - started)
    return 2 * side**3 / median(times[5:])


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        import torch

        torch.cuda.synchronize()


class Videos:
    """Frames as a sampler would hand them over: each video in memory of its own."""

    def __init__(self, engine: Engine) -> None:
        chance = np.random.default_rng(0)
        self._engine = engine
        self._kinds = chance.integers(0, 256, (8, *SHAPE), np.uint8)

    def __getitem__(self, number: int) -> npt.NDArray[np.uint8]:
        frames = self._engine.new_frames()
        frames[:] = self._kinds[number % len(self._kinds)]
        return frames


@contextmanager
def engine_of(names: Sequence[str], weights: str, *, batch: int, compiled: str) -> Iterator[Engine]:
    made = Engine(device=None, models_dir=None, videos_per_batch=batch, compile=compiled)
    try:
        for name in names:
            started = time.perf_counter()
            made.load(ModelKey(name, weights))
            console.print(f"  {name}: ready in {time.perf_counter() - started:.1f} s")
        yield made
    finally:
        made.close()


def label_sets(name: str) -> tuple[Any, ...]:
    return tuple(label_sets_shipped()) if registry.get(name).has_text else ()


def throughput(
    engine: Engine, names: Sequence[str], weights: str, *, seconds: float, videos: int | None = None
) -> float:
    """Videos per second, each through all of `names`: those that end after `WARM_SECONDS`, for
    `seconds` or `videos`.
    """
    frames_of, lock, ends = Videos(engine), threading.Lock(), list[float]()
    clients = THREADS[engine.device_name != "cpu"]
    begin = time.perf_counter()
    until = begin + WARM_SECONDS + seconds

    def client(slot: int) -> None:
        number = slot
        while (time.perf_counter() < until) if videos is None else (len(ends) < videos):
            frames = frames_of[number]
            futures = [
                engine.submit(
                    ModelKey(name, weights), frames, label_sets(name), timeout_seconds=600
                )
                for name in names
            ]
            for future in futures:
                future.result()
            with lock:
                ends.append(time.perf_counter())
            number += clients

    threads = [threading.Thread(target=client, args=(slot,)) for slot in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = sorted(end for end in ends if end > begin + WARM_SECONDS)
    if videos is None:
        counted = [end for end in counted if end <= until]
    return (
        (len(counted) - 1) / (counted[-1] - counted[0])
        if len(counted) > 1
        else len(ends) / (ends[-1] - begin)
    )


def notebook_seconds(name: str, weights: str, on_gpu: bool, seconds: float) -> float:
    """Of one video, the notebook's way."""
    device = "cuda" if on_gpu else "cpu"
    model, spec = pipeline_notebook.model(name, weights, device), registry.get(name)
    frames = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    pixels = pipeline_notebook.pixels(frames, spec)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        pipeline_notebook.forward(model, spec, pixels, device)
        times.append(time.perf_counter() - started)
    return median(times[1:])


def cosines(engine: Engine, names: Sequence[str], weights: str) -> dict[str, dict[str, float]]:
    """Per backbone, the worst of 16 videos: vectors made in company, in the engine's precision,
    with those made alone in float32; and by how much the probabilities differ."""
    frames_of = Videos(engine)
    videos = [frames_of[number] for number in range(8)]
    found = {}
    for name in names:
        key, labels = ModelKey(name, weights), label_sets(name)
        together = [engine.submit(key, frames, labels, timeout_seconds=600) for frames in videos]
        angles, apart = [], [0.0]
        for frames, made in zip(videos, [future.result() for future in together], strict=True):
            exact = alone(engine._device, EncodeRequest(key, frames, labels))
            for one, other in (
                (made.pooled, exact.pooled),
                *zip(made.windows, exact.windows, strict=True),
            ):
                angles.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
            apart += [
                float(np.abs(made.probabilities[d] - part).max())
                for d, part in exact.probabilities.items()
            ]
        found[name] = {"cosine": min(angles), "probability": max(apart)}
    return found


def alone(device: Device, request: EncodeRequest) -> Encoding:
    """One video by itself in float32, while the engine has nothing to do."""
    count = registry.get(request.key.backbone).windows_per_video
    (made,) = device.finish(
        device.start([Piece(Item(request, count, 0, 0, alone=True), 0, count)], precise=True)
    )
    assert isinstance(made, Encoding)
    return made


def memory_bytes(on_gpu: bool) -> dict[str, int]:
    """Resident here, and reserved and used on the GPU."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {"resident": pages * os.sysconf("SC_PAGE_SIZE")}
    if on_gpu:
        import torch

        found |= {
            "reserved": torch.cuda.memory_reserved(),
            "allocated": torch.cuda.memory_allocated(),
        }
    return found


def main() -> None:
    import torch

    chosen = options()
    on_gpu = torch.cuda.is_available()
    weights = chosen.weights or ("random-full" if on_gpu else "random-tiny")
    full = weights == "random-full"
    rate = matrix_rate(on_gpu)
    where = (
        torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores {platform.machine()}"
    )
    found: dict[str, Any] = {
        "machine": f"{datetime.now(UTC):%Y-%m-%d}, {where}, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        "weights": weights,
        "matrix_teraflops": rate / 1e12,
        "rows": [],
    }
    console.print(f"{found['machine']}; {rate / 1e12:.1f} TFLOP/s")

    def row(what: str, names: Sequence[str], videos_per_second: float, **more: Any) -> None:
        windows = videos_per_second * sum(registry.get(name).windows_per_video for name in names)
        flops = videos_per_second * sum(
            1e9 * GFLOP[name] * registry.get(name).windows_per_video for name in names
        )
        found["rows"].append(
            {
                **{"what": what, "backbones": list(names), "videos_per_second": videos_per_second},
                **{
                    "windows_per_second": windows,
                    "fraction": flops / rate if full else None,
                    **more,
                },
            }
        )
        console.print(f"  {what} {'+'.join(names)}: {videos_per_second:.2f} videos/s")

    names = tuple(chosen.backbones)
    batches = chosen.batches or ([4, 1] if on_gpu else [1])
    compiles = chosen.compile or (["auto", "off"] if on_gpu else ["off"])
    grow = chosen.grow or (10_000 if on_gpu else 600)
    first = (compiles[0], batches[0])
    settings = [
        first,
        *((first[0], batch) for batch in batches[1:]),
        *((one, first[1]) for one in compiles[1:]),
    ]
    for compiled, batch in settings:
        more = {"compile": compiled, "videos_per_batch": batch}
        console.print(f"compile {compiled}, batches of {batch} videos")
        loaded = (*names, *chosen.extra) if (compiled, batch) == first else names
        with engine_of(loaded, weights, batch=batch, compiled=compiled) as engine:
            for name in loaded if chosen.each or (compiled, batch) == first else ():
                row(
                    "alone",
                    [name],
                    throughput(engine, [name], weights, seconds=chosen.seconds),
                    **more,
                )
            row(
                "together",
                names,
                throughput(engine, names, weights, seconds=2 * chosen.seconds),
                **more,
            )
            if (compiled, batch) == first:
                found["cosines"] = cosines(engine, loaded, weights)
                before = memory_bytes(on_gpu)
                per_video = sum(registry.get(name).windows_per_video for name in names)
                videos = -(-grow // per_video)
                row(
                    "growth",
                    names,
                    throughput(engine, names, weights, seconds=0, videos=videos),
                    **more,
                )
                after = memory_bytes(on_gpu)
                found["growth"] = {"windows": videos * per_video, "before": before, "after": after}
        if on_gpu:
            torch.cuda.empty_cache()
    if not chosen.no_notebook:
        console.print("the notebook's way")
        seconds = {name: notebook_seconds(name, weights, on_gpu, chosen.seconds) for name in names}
        for name in names:
            row("notebook", [name], 1 / seconds[name])
        row("notebook", names, 1 / sum(seconds.values()))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    show(found)


def show(found: dict[str, Any]) -> None:
    """The tables, on stdout."""
    print(
        f"{found['machine']}; {found['weights']}; matrix product {found['matrix_teraflops']:.1f} "
        "TFLOP/s\n"
    )
    print(
        "| engine | compile | videos/batch | videos/s | windows/s | of the matrix rate "
        "|\n|---|---|--:|--:|--:|--:|"
    )
    for one in found["rows"]:
        name = one["backbones"][0] if len(one["backbones"]) == 1 else f"all {len(one['backbones'])}"
        part = "" if one["fraction"] is None else f"{one['fraction']:.1%}"
        print(
            f"| {one['what']}: {name} | {one.get('compile', '')} | "
            f"{one.get('videos_per_batch', '')} | {one['videos_per_second']:.2f} | "
            f"{one['windows_per_second']:.1f} | {part} |"
        )
    print(
        "\n| made in company against alone in float32 | worst cosine | largest difference of a "
        "probability |\n|---|--:|--:|"
    )
    for name, one in found["cosines"].items():
        print(f"| {name} | {one['cosine']:.6f} | {one['probability']:.4f} |")
    growth = found["growth"]
    print(f"\n| memory, MiB | before | after {growth['windows']} windows |\n|---|--:|--:|")
    for kind, before in growth["before"].items():
        print(f"| {kind} | {before / 2**20:.0f} | {growth['after'][kind] / 2**20:.0f} |")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5, help="of one measurement")
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        help="videos of a batch; default: 4 and 1 on a GPU, else 1",
    )
    parser.add_argument(
        "--compile",
        nargs="+",
        choices=("auto", "on", "off"),
        help="default: auto, off; on the CPU off",
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="every backbone alone with every setting, not the first only",
    )
    parser.add_argument("--backbones", nargs="+", choices=NOTEBOOK, default=NOTEBOOK)
    parser.add_argument(
        "--extra", nargs="*", choices=("vjepa2", "siglip2"), default=("vjepa2", "siglip2")
    )
    parser.add_argument(
        "--weights",
        choices=("random-tiny", "random-full"),
        help="default: full on a GPU, else tiny",
    )
    parser.add_argument(
        "--grow", type=int, help="windows over which memory must not grow: 10,000, on the CPU 600"
    )
    parser.add_argument("--no-notebook", action="store_true")
    parser.add_argument("--json", type=Path, default=JSON_FILE)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
