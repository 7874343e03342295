"""What frames that are sampled already are worth to a worker: its pace and its CPU, from packs and
from whole videos; a new model over kept frames against decoding again; packs beside whole videos;
two stages against one.

    python -m bench.two_stages [--videos 40] [--part probe] [--seconds 60] [--height 720]

A durable Postgres, the broker, the frame store (a folder; for `bucket` Swift's S3 interface) and
everything else share this machine.
`probe` computes next to nothing, so that what is measured is the way to it; `device` makes it take
34 ms a video without a core, as an H200 does with four models. Rates are the ledger's, from the
first claim to the last commit; CPU seconds are those of one video.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import text

from bench import pipeline_cpu, pipeline_files, pipeline_worker
from bench.pipeline_worker import REELVEC, Stack
from db import session
from tests import s3_server

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
#: Of jobs: it has no pack, or is done.
NO_PACKS_LEFT = "state = 'done' OR video_id NOT IN (SELECT video_id FROM reelvec.packs)"
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
    """`store` is the folder of the frame store; `folder` holds the videos, `others` as many again."""

    def __init__(self, stack: Stack, folder: Path, others: Path, store: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._others = others
        self._store = store
        self._frames = {"REELVEC_FRAMES": str(store)}

    def enqueue(self, *words: str) -> None:
        """By the command, which publishes what there is room for."""
        self._run("enqueue", str(self._folder), "--backbone", "probe", *words)

    def enqueue_others(self) -> None:
        self._run("enqueue", str(self._others), "--backbone", "probe")

    def keep_frames(self) -> None:
        """Of all videos, without a look at the clock."""
        self.enqueue("--keep-frames")
        with self.worker(samplers=2):
            self.until("state = 'done'")

    @contextmanager
    def in_a_bucket(self) -> Iterator[None]:
        """Every pack is in a bucket, and workers read them there."""
        with s3_server.running(self._stack.folder / f"s3-{uuid4().hex}") as server:
            bucket, before = server.bucket(), self._frames
            for path in self._store.glob("*/*"):
                server.put(bucket, f"frames/{path.name}", path.read_bytes())
            self._frames = {
                "REELVEC_FRAMES": f"s3://{bucket}/frames",
                "REELVEC_FRAMES_ENDPOINT": f"http://{server.endpoint}",
                "REELVEC_FRAMES_ACCESS_KEY_ID": s3_server.KEY,
                "REELVEC_FRAMES_SECRET_ACCESS_KEY": s3_server.SECRET,
            }
            try:
                yield
            finally:
                self._frames = before

    def _run(self, *words: str) -> None:
        with (self._stack.folder / "log").open("ab") as log:
            environment = self._stack.environment(1)
            subprocess.run([*REELVEC, *words], env=environment, stdout=log, stderr=log, check=True)

    @contextmanager
    def worker(
        self, *words: str, samplers: int = 1, on_device: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that may use the frame store, until the end."""
        environment = self._stack.environment(samplers) | self._frames
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

    def until_any(self, condition: str) -> None:
        """Wait until this holds of a job."""
        while not self._one(f"SELECT count(*) FROM reelvec.jobs WHERE {condition}"):
            time.sleep(LOOK_SECONDS)

    def pace(
        self, workers: dict[str, subprocess.Popen[bytes]], end: str = "state = 'done'"
    ) -> Pace:
        """Of what is queued, from now until `end` holds of every job."""
        roots = {name: process.pid for name, process in workers.items()}
        self.until_any("state IN ('running', 'done')")
        before, began = pipeline_cpu.by_kind(roots), time.monotonic()
        done = self._one("SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")
        self.until(end)
        seconds = time.monotonic() - began
        after = pipeline_cpu.by_kind(roots)
        videos = self._one("SELECT count(*) FROM reelvec.jobs WHERE state = 'done'") - done
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


def probe(bench: Bench) -> Iterator[str]:
    return measure(bench, on_device=False)


def device(bench: Bench) -> Iterator[str]:
    return measure(bench, on_device=True)


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


def bucket(bench: Bench) -> Iterator[str]:
    """The same packs from a folder and by S3, with either device."""
    bench.keep_frames()
    for on_device in (False, True):
        what = "the device" if on_device else "`probe`"
        folder = _packs(bench, on_device=on_device)
        yield line(f"{what}, packs from a folder", folder)
        with bench.in_a_bucket():
            packs = _packs(bench, on_device=on_device)
        yield line(f"{what}, packs by S3", packs, against=folder)


def mixed(bench: Bench) -> Iterator[str]:
    """As long as there are packs: alone, and with whole videos in hand and waiting before they
    come.
    """
    bench.keep_frames()
    alone = _packs(bench, on_device=True)
    yield line("the device, packs alone", alone)
    bench.enqueue_others()
    with bench.worker(on_device=True) as worker:
        bench.until_any("state = 'running'")
        bench.enqueue("--force")
        beside = bench.pace({"worker": worker}, NO_PACKS_LEFT)
    yield line("the device, packs beside whole videos", beside, against=alone)


def _packs(bench: Bench, *, on_device: bool) -> Pace:
    bench.enqueue("--force")
    with bench.worker(on_device=on_device) as worker:
        return bench.pace({"worker": worker})


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


PARTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "probe": probe,
    "device": device,
    "bucket": bucket,
    "mixed": mixed,
    "stages": stages,
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each video")
    parser.add_argument("--height", type=int, default=720, help="of each video, in pixels")
    parser.add_argument("--part", choices=PARTS, action="append")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="reelvec-bench-") as name:
        folder, store, others = Path(name), Path(name) / "frames", Path(name) / "others"
        store.mkdir()
        others.mkdir()
        with pipeline_worker.stack(folder) as stack:
            files = pipeline_files.make(
                folder, videos=chosen.videos, seconds=chosen.seconds, height_px=chosen.height
            )
            for file in files:
                os.link(file, others / file.name)
            bench = Bench(stack, files[0].parent, others, store)
            print(
                "| what | videos/s | device busy | CPU s a video | times |\n|---|---|---|---|---|"
            )
            for part in chosen.part or PARTS:
                for row in PARTS[part](bench):
                    print(row, flush=True)
                bench.forget()


if __name__ == "__main__":
    main()
