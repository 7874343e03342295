"""Whether torch can use the GPUs there are, and if not, why. Judgements are pure."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from producer.doctor import requirements
from producer.doctor.check import Finding, fail, ok, warn

#: Oldest driver for a torch built for a CUDA major version (NVIDIA: "CUDA minor version
#: compatibility").
OLDEST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
DRIVER_FILE = Path("/proc/driver/nvidia/version")
ON_THE_CPU = "or set REELVEC_DEVICE=cpu to compute on the CPU"


@dataclass(frozen=True)
class GpuFacts:
    """`cuda`: what torch was built for, None: the CPU. `visible`: device files not hidden.
    `driver`: its version.

    `asked`: REELVEC_DEVICE. `chosen`: the device a worker would use; None: it would refuse with
    `refused`.
    """

    torch: str
    cuda: str | None
    visible: tuple[str, ...]
    gpus: tuple[str, ...]
    driver: str | None
    asked: str | None
    chosen: str | None
    refused: str | None
    hidden: bool


def driver_version() -> str | None:
    """From the kernel, else from nvidia-smi; None where neither is there."""
    try:
        return parse_driver(DRIVER_FILE.read_text())
    except OSError:
        pass
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else None


def parse_driver(text: str) -> str | None:
    """The version in /proc/driver/nvidia/version."""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s", text)
    return found[1] if found else None


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "NoDevFiles")


def judge(facts: GpuFacts) -> Finding:
    build = f"built for CUDA {facts.cuda}" if facts.cuda else "a build for the CPU"
    driver = f"driver {facts.driver}" if facts.driver else "no driver"
    if facts.refused is not None:
        fact, advice = _why_refused(facts, build, driver)
        return fail("device", fact, f"{advice}, {ON_THE_CPU}")
    if facts.chosen == "cpu":
        return _on_the_cpu(facts, build)
    return ok("device", f"{facts.chosen} ({', '.join(facts.gpus)}), torch {build}, {driver}")


def _why_refused(facts: GpuFacts, build: str, driver: str) -> tuple[str, str]:
    """What keeps torch from the device a worker would take, and what to do about it."""
    refused = str(facts.refused)
    shown = f"the machine has {', '.join(facts.visible) or 'a driver'}"
    oldest = OLDEST_DRIVER.get(requirements.numbers(facts.cuda)[0]) if facts.cuda else None
    if not facts.visible and not facts.driver:
        return refused, "this machine shows no GPU: look at nvidia-smi"
    if facts.cuda is None:
        return f"{shown}, but torch is {build}", f"install torch built for CUDA ({driver})"
    if facts.driver is None:
        return f"{shown}, but {driver}", "install the driver (containers: --gpus all)"
    if oldest and requirements.numbers(facts.driver) < oldest:
        least = ".".join(map(str, oldest))
        fact = f"{driver} is too old for torch {build}, which needs {least} or newer"
        return fact, "update the driver, install torch built for an older CUDA"
    return refused, "look at nvidia-smi; in a container start it with --gpus all"


def _on_the_cpu(facts: GpuFacts, build: str) -> Finding:
    """A worker here runs on the CPU: by choice, for lack of a GPU, or because one is out of its
    sight.
    """
    if facts.asked == "cpu":
        unused = f"; {', '.join(facts.visible)} stay unused" if facts.visible else ""
        return ok("device", f"cpu, as REELVEC_DEVICE says{unused}")
    if facts.driver and not facts.visible and not facts.hidden:
        return warn(
            "device",
            f"cpu: driver {facts.driver} is loaded, but no GPU is visible",
            "in a container start it with --gpus all; else look at nvidia-smi",
        )
    why = "CUDA_VISIBLE_DEVICES hides every GPU" if facts.hidden else "this machine shows no GPU"
    return ok("device", f"cpu: {why}; torch is {build}")
