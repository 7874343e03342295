"""What frames that are sampled already are worth to a worker: its pace and its CPU, from packs and
from whole videos; a new model over kept frames against decoding again; two stages against one.

    python -m bench.two_stages [--videos 40] [--part probe] [--seconds 60] [--height 720]

A durable Postgres, the broker, the frame store (a folder) and everything else share this machine.
`probe` computes next to nothing, so that what is measured is the way to it; `device` makes it take
34 ms a video without a core, as an H200 does with four models. Rates are the ledger's, from the
first claim to the last commit; CPU seconds are those of one video.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from bench import pipeline_cpu, pipeline_files, pipeline_worker
from bench.pipeline_worker import REELVEC, Stack
from db import session

#: What an H200 takes for one video with four models.
DEVICE_SECONDS = 0.034
#: A worker whose `probe` takes the time of a device, and no core.
ON_DEVICE = f"""
import sys, time
from workers.backbones import probe
encode = probe.Probe.encode
def slowly(self, windows, label_sets):
    time.sleep({DEVICE_SECONDS} * len(windows) / 3)
    return encode(self, windows, label_sets)
probe.Probe.encode = slowly
from workers.celery_command import main
sys.argv = ["celery", "-A", "workers.app", "worker", "-n", "device@%h"]
sys.exit(main())
"""
LOOK_SECONDS = 0.2
STOP_SECONDS = 60


@dataclass(frozen=True)
class Pace:
    """`busy`: the part of the time in which the device was at work, if it has one."""

    videos_per_second: float
    cpu: dict[str, float]
    device_seconds: float

    @property
    def busy(self) -> float:
        return self.videos_per_second * self.device_seconds


class Bench:
    """`store` is the frame store; `folder` holds the videos."""

    def __init__(self, stack: Stack, folder: Path, store: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._store = store

    def enqueue(self, *words: str) -> None:
        """By the command, which publishes what there is room for."""
        self._run("enqueue", str(self._folder), "--backbone", "probe", *words)

    def _run(self, *words: str) -> None:
        with (self._stack.folder / "log").open("ab") as log:
            environment = self._stack.environment(1)
            subprocess.run([*REELVEC, *words], env=environment, stdout=log, stderr=log, check=True)

    @contextmanager
    def worker(
        self, *words: str, samplers: int = 1, on_device: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that may use the frame store, until the end."""
        environment = self._stack.environment(samplers) | {"REELVEC_FRAMES": str(self._store)}
        command = [sys.executable, "-c", ON_DEVICE] if on_device else [*REELVEC, "worker", *words]
        with (self._stack.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.terminate()
                process.wait(STOP_SECONDS)

    def until(self, condition: str) -> None:
        """Wait until this holds of every job."""
        while self._one(f"SELECT count(*) FROM reelvec.jobs WHERE NOT ({condition})"):
            time.sleep(LOOK_SECONDS)

    def pace(self, workers: dict[str, subprocess.Popen[bytes]]) -> Pace:
        """Of what is queued, from now to its end."""
        roots = {name: process.pid for name, process in workers.items()}
        while not self._one("SELECT count(*) FROM reelvec.jobs WHERE state IN ('running', 'done')"):
            time.sleep(LOOK_SECONDS)
        before, began = pipeline_cpu.by_kind(roots), time.monotonic()
        done = self._one("SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")
        self.until("state = 'done'")
        seconds = time.monotonic() - began
        after = pipeline_cpu.by_kind(roots)
        videos = self._one("SELECT count(*) FROM reelvec.jobs") - done
        cpu = {kind: (after[kind] - before[kind]) / videos for kind in after}
        device = self._one("SELECT avg(device_seconds) FROM reelvec.jobs")
        return Pace(videos / seconds, cpu, float(device))

    def _one(self, query: str) -> float:
        with session.transaction(self._stack.engine) as connection:
            return float(connection.execute(text(query)).scalar() or 0)

    def megabytes(self) -> float:
        """Of one pack, on average."""
        return self._one("SELECT avg(size_bytes) / 1e6 FROM reelvec.packs")

    def forget(self) -> None:
        """Everything is as if nothing had been recorded."""
        with session.transaction(self._stack.engine) as connection:
            connection.execute(text("DELETE FROM reelvec.videos"))


def line(what: str, pace: Pace, *, against: Pace | None = None) -> str:
    cpu = "; ".join(f"{kind} {seconds:.3f}" for kind, seconds in pace.cpu.items())
    times = "" if against is None else f"{pace.videos_per_second / against.videos_per_second:.1f}"
    return f"| {what} | {pace.videos_per_second:.2f} | {100 * pace.busy:.0f} % | {cpu} | {times} |"


def measure(bench: Bench, *, on_device: bool) -> Iterator[str]:
    """From whole videos, keeping their frames; then a second model over those."""
    what = f"a device of {1000 * DEVICE_SECONDS:.0f} ms" if on_device else "`probe`"
    bench.enqueue("--keep-frames")
    with bench.worker(on_device=on_device) as worker:
        whole = bench.pace({"worker": worker})
    yield line(f"{what}, whole videos, frames kept", whole)
    bench.enqueue("--weights", "random-tiny")
    with bench.worker(on_device=on_device) as worker:
        packs = bench.pace({"worker": worker})
    yield line(
        f"{what}, a second model over packs of {bench.megabytes():.1f} MB", packs, against=whole
    )
    bench.forget()


def stages(bench: Bench) -> Iterator[str]:
    """The same two samplers, both beside the device or one of them elsewhere."""
    bench.enqueue()
    with bench.worker(samplers=2, on_device=True) as worker:
        one = bench.pace({"worker": worker})
    yield line("one stage, two samplers", one)
    bench.forget()
    bench.enqueue()
    with (
        bench.worker("--stage", "sample") as sampler,
        bench.worker(on_device=True) as worker,
    ):
        two = bench.pace({"worker": worker, "sampler node": sampler})
    yield line("two stages, a sampler each", two, against=one)
    bench.forget()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each video")
    parser.add_argument("--height", type=int, default=720, help="of each video, in pixels")
    parser.add_argument("--part", choices=["probe", "device", "stages"], action="append")
    chosen = parser.parse_args(words)
    parts = chosen.part or ["probe", "device", "stages"]
    with tempfile.TemporaryDirectory(prefix="reelvec-bench-") as name:
        folder, store = Path(name), Path(name) / "frames"
        store.mkdir()
        with pipeline_worker.stack(folder) as stack:
            files = pipeline_files.make(
                folder, videos=chosen.videos, seconds=chosen.seconds, height_px=chosen.height
            )
            bench = Bench(stack, files[0].parent, store)
            print(
                "| what | videos/s | device busy | CPU s a video | times |\n|---|---|---|---|---|"
            )
            for part in parts:
                made = (
                    stages(bench)
                    if part == "stages"
                    else measure(bench, on_device=part == "device")
                )
                for row in made:
                    print(row, flush=True)


if __name__ == "__main__":
    main()
