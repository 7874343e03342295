"""Videos per second end to end, through broker and database, against the samplers alone, the
notebook's loop and others.

    python -m bench.pipeline [--videos 60] [--samplers N] [--rounds 3] [--weights random-full]

Makes its own clips and a private Postgres and broker; prints the tables of bench/RESULTS.md and
writes them as JSON. Both tables compare a worker with as many sampler processes that have nothing
behind them, in turns. `overhead` is with the probe backbone, which costs next to nothing. `models`
is with `--backbones`, and against the notebook's loop as well (a few videos: it is slow), and Ray
Data and Daft where they are installed (pip install "ray[data]" daft), which get the same decoder
and the same models. Process start and model load are left out: a worker's clock is the ledger's,
once as many videos have ended as there are samplers. `overhead` ends with what the worker takes
when it has nothing to do. Exits with 1 if the notebook's vectors are not ours.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from bench import pipeline_cpu, pipeline_files, pipeline_notebook, pipeline_rivals, pipeline_worker
from bench.pipeline_worker import Run, Stack, Work, console
from db import settings
from workers.sampling.pool import SamplerPool
from workers.settings import WorkerSettings
from workers.sources.file import open_file

PACKAGES = ("torch", "transformers", "av", "ray", "daft")
TABLES = ("overhead", "models")
JSON_FILE = Path(__file__).with_name("results") / "pipeline.json"
#: Below it the two did not do the same work: bfloat16 and float32 agree to 0.9999.
LEAST_COSINE = 0.999
#: CPU clocks tick 100 times a second: 0.03 % of a core.
IDLE_SECONDS = 40.0
T = TypeVar("T")


def samplers_alone(work: Work) -> dict[str, float]:
    """Videos per second of sampler processes, a thread for each, whose frames are thrown away; CPU
    seconds of a video.
    """
    pool = SamplerPool(work.samplers, wall_seconds=600, cpu_seconds=600)

    def sample(path: Path) -> None:
        with open_file(path.as_uri(), None) as source:
            pool.sample(source, "notebook")

    try:
        with ThreadPoolExecutor(work.samplers) as threads:
            list(
                threads.map(sample, work.files[: work.samplers])
            )  # they are ready when the clock starts
            cpu, started = -_cpu_seconds(pool), time.perf_counter()
            list(threads.map(sample, work.files))
            seconds = time.perf_counter() - started
            cpu += _cpu_seconds(pool)
    finally:
        pool.close()
    return {"videos_per_second": len(work.files) / seconds, "cpu": cpu / len(work.files)}


def _cpu_seconds(pool: SamplerPool) -> float:
    return sum(stat.seconds for pid in pool.pids() if (stat := pipeline_cpu.stat_of(pid)))


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Run in a fresh process, whose talk goes to stderr."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _talk_to_stderr) as pool:
        return pool.submit(function, *arguments).result()


def _talk_to_stderr() -> None:
    os.dup2(2, 1)


def compare(table: str, made: Stack, work: Work, rounds: int) -> dict[str, Any]:
    """Samplers alone and the worker in turns."""
    alone: list[dict[str, float]] = []
    runs: list[Run] = []
    for number in range(rounds):
        console.print(f"{table}, round {number + 1} of {rounds}: {work.samplers} samplers alone")
        alone.append(samplers_alone(work))
        console.print(
            f"  {alone[-1]['videos_per_second']:.2f} videos/s; the worker, through broker and "
            "database"
        )
        last = table == "overhead" and number == rounds - 1
        runs.append(pipeline_worker.run(made, work, idle_seconds=IDLE_SECONDS if last else 0))
        console.print(f"  {runs[-1].rate:.2f} videos/s on {runs[-1].device}")
    return {
        "samplers_alone": alone,
        "worker": [pipeline_worker.as_dict(one) for one in runs],
        "ratio": median(
            one.rate / other["videos_per_second"] for one, other in zip(runs, alone, strict=True)
        ),
    }


def rivals(
    work: Work, folder: Path, notebook_videos: int, skipped: Sequence[str]
) -> dict[str, Any]:
    """What the others do with the same files, each in a process of its own."""
    found: dict[str, Any] = {}
    contests: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
        "notebook": (pipeline_notebook.run, (work, notebook_videos, folder)),
        **{
            name: (contest, (work, folder / name))
            for name, contest in pipeline_rivals.RIVALS.items()
        },
    }
    for name, (contest, arguments) in contests.items():
        if name in skipped or (name in pipeline_rivals.RIVALS and not _version(name)):
            found[name] = {"note": "skipped" if name in skipped else "not installed"}
            continue
        console.print(f"models: {name}")
        (folder / name).mkdir()
        try:
            found[name] = apart(contest, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever the others meet is their result
            found[name] = {"note": f"failed: {type(error).__name__}: {error}"[:300]}
        one = found[name]
        console.print("  " + (one.get("note") or f"{one['videos_per_second']:.3f} videos/s"))
    return found


def agreement(found: dict[str, Any], ours: dict[str, np.ndarray]) -> dict[str, float]:
    """Cosines of the notebook's vectors of the first video with those in the database."""
    return {
        name: _cosine(ours[name], vector)
        for name, vector in found["notebook"].pop("vectors", {}).items()
    }


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(found: dict[str, Any]) -> None:
    """The tables, on stdout."""
    print(found["machine"], end="\n\n")
    for table in TABLES:
        if table in found:
            print(
                f"| {table} ({', '.join(found[table]['backbones'])}) | videos/s | reelvec is "
                "|\n|---|--:|--:|"
            )
            _show_rates(found[table])
            _show_cpu(found[table])


def _show_rates(found: dict[str, Any]) -> None:
    rate = _middle(found["worker"])["videos_per_second"]
    alone = _middle(found["samplers_alone"])["videos_per_second"]
    print(f"| reelvec, through broker and database | {rate:.3f} | |")
    print(f"| its samplers alone | {alone:.3f} | {found['ratio']:.3f} |")
    if (idle := found["worker"][-1]["idle"]) is not None:
        print(f"| the worker idle, of a core | {idle:.2%} | |")
    for name, one in found.get("rivals", {}).items():
        figures = (
            one.get("note")
            or f"{one['videos_per_second']:.3f} | {rate / one['videos_per_second']:.2f}"
        )
        print(f"| {name} | {figures} |{'' if 'note' not in one else ' |'}")
    if found.get("cosines"):
        cosines = ", ".join(f"{name} {cosine:.6f}" for name, cosine in found["cosines"].items())
        print(
            "\nCosine of the notebook's vector with reelvec's, one video (at least "
            f"{LEAST_COSINE}): {cosines}"
        )


def _show_cpu(found: dict[str, Any]) -> None:
    cpu = _middle(found["worker"])["cpu"]
    kinds = sorted(cpu, key=lambda kind: -cpu[kind])
    cells = [f"{1000 * cpu[kind]:.1f}" for kind in kinds]
    print(
        f"\n| CPU ms of a video | samplers alone | {' | '.join(kinds)} "
        f"|\n|---|--:|{'--:|' * len(kinds)}"
    )
    print(f"| | {1000 * _middle(found['samplers_alone'])['cpu']:.1f} | {' | '.join(cells)} |\n")


def _middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle by rate."""
    return sorted(runs, key=lambda run: run["videos_per_second"])[len(runs) // 2]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos", type=int, default=60, help="many more for many samplers: the ends count, too"
    )
    parser.add_argument("--seconds", type=float, default=20, help="length of a clip")
    parser.add_argument(
        "--height", type=int, default=360, help="lines of a clip, a multiple of 18 from 180 on"
    )
    parser.add_argument("--samplers", type=int, help="default: as many as a worker chooses here")
    parser.add_argument("--rounds", type=int, default=3, help="of worker and samplers alone")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument(
        "--backbones",
        nargs="+",
        choices=pipeline_notebook.BACKBONES,
        default=pipeline_notebook.BACKBONES,
    )
    parser.add_argument(
        "--weights",
        choices=("random-tiny", "random-full"),
        help="default: full on a GPU, else tiny",
    )
    parser.add_argument("--notebook-videos", type=int, default=3)
    parser.add_argument(
        "--skip", nargs="+", choices=("notebook", *pipeline_rivals.RIVALS), default=()
    )
    parser.add_argument("--json", type=Path, default=JSON_FILE)
    return parser.parse_args()


def main() -> int:
    import torch

    chosen = options()
    on_gpu = torch.cuda.is_available()
    weights = chosen.weights or ("random-full" if on_gpu else "random-tiny")
    samplers = chosen.samplers or settings.load(WorkerSettings).shape.samplers
    device = torch.cuda.get_device_name() if on_gpu else "no GPU"
    installed = ", ".join(f"{name} {_version(name)}" for name in PACKAGES if _version(name))
    found: dict[str, Any] = {
        "machine": f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, "
        f"{device},"
        f" Python {platform.python_version()}, {installed}; samplers: {samplers}, videos: "
        f"{chosen.videos} of"
        f" {chosen.seconds:g} s at {chosen.height} lines, weights: {weights}, rounds: "
        f"{chosen.rounds} (the middle one)"
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        files = pipeline_files.make(
            folder, videos=chosen.videos, seconds=chosen.seconds, height_px=chosen.height
        )
        for table in chosen.tables:
            backbones = ("probe",) if table == "overhead" else tuple(chosen.backbones)
            work = Work(tuple(files), backbones, weights, samplers, on_gpu)
            place = folder / table
            place.mkdir()
            with pipeline_worker.stack(place) as made:
                found[table] = {"backbones": backbones, **compare(table, made, work, chosen.rounds)}
                ours = made.vectors(files[0].as_uri(), work)
            if table == "models":
                found[table]["rivals"] = rivals(work, place, chosen.notebook_videos, chosen.skip)
                found[table]["cosines"] = agreement(found[table]["rivals"], ours)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    show(found)
    agrees = all(
        cosine >= LEAST_COSINE for cosine in found.get("models", {}).get("cosines", {}).values()
    )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
