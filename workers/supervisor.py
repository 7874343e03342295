"""One worker process per GPU of this node: started, told to stop, started again if one dies."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

#: Ends that starting again would only repeat: usage, no stack, unreachable, refused.
FINAL_EXIT_CODES = {0, 2, 3, 69, 78}
RESTART_SECONDS = 5.0
POLL_SECONDS = 0.2


def visible_gpus() -> list[str]:
    """Ids for CUDA_VISIBLE_DEVICES, without loading torch: those the environment allows, else one per device node.

    CUDA counts the devices it sees from 0, whatever the numbers of their nodes are in a container that got only some.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() not in ("", "-1")]
    nodes = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(index) for index in range(len(nodes))]


def environment_of(gpu: str | None, processes: int) -> dict[str, str]:
    """A child's environment: its one GPU, and its share of the cores for samplers unless REELVEC_SAMPLERS says otherwise."""
    environment = dict(os.environ)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    environment.setdefault("REELVEC_SAMPLERS", str(max(1, (os.cpu_count() or 2) // processes - 1)))
    return environment


@dataclass
class Child:
    """One worker process."""

    name: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-n", f"{self.name}@%h"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # its own session: a ^C reaches it once, through us
        self.process = subprocess.Popen(command, env=self.environment, start_new_session=True)


def run() -> int:
    """Supervise until all children have ended; returns the first exit code that is not 0."""
    gpus = visible_gpus()
    children = [Child(f"gpu{gpu}", environment_of(gpu, len(gpus))) for gpu in gpus]
    children = children or [Child("cpu", environment_of(None, 1))]
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)

    for child in children:
        child.start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    running, codes = list(children), []
    while running:
        time.sleep(POLL_SECONDS)
        for child in list(running):
            code = child.process.poll()
            if code is None:
                continue
            if stopping or code in FINAL_EXIT_CODES:
                running.remove(child)
                codes.append(code)
                continue
            print(f"worker {child.name} ended with {code}; starting it again", file=sys.stderr)  # noqa: T201
            time.sleep(RESTART_SECONDS)
            if not stopping:
                child.start()
    return next((abs(code) for code in codes if code != 0), 0)
