"""One worker process per GPU of this node: started, told to stop, started again if one dies.

Each has a thread that waits for its end: nothing is polled, and one that waits to be started again
holds up no other. If this process dies by whatever cause, they drain (`workers.node.lifeline`); the
next one's wait for them (`workers.node.gpu_lock`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from db import machine, settings
from db.errors import UsageError
from db.exit_codes import ExitCode, Then, then
from workers import health
from workers import settings as worker_settings
from workers.ending.end_signals import EndSignals
from workers.node import notice
from workers.node.lifeline import Lifeline
from workers.settings import WorkerSettings

#: Before a process is started again; each time it dies young the delay doubles.
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 5.0, 60.0
#: One that has lived this long has not died of what killed it before.
LONG_LIFE_SECONDS = 600.0
#: A process that is not gone so long after its own hard limit is killed.
SPARE_SECONDS = 3.0


def choose_gpus(wanted: str, device: str | None) -> list[str]:
    """The GPUs that get a process, as ids for CUDA_VISIBLE_DEVICES; none: one process on the CPU.

    `wanted` is `all`, `none` or ids of visible ones, `device` is REELVEC_DEVICE. Raises
    `UsageError` for any other id.
    """
    if wanted == "none" or (wanted == "all" and device == "cpu"):
        return []
    visible = machine.visible_gpus()
    if wanted == "all":
        return visible
    if device == "cpu":
        raise UsageError(f"--gpus {wanted} contradicts REELVEC_DEVICE=cpu")
    gpus = list(dict.fromkeys(part.strip() for part in wanted.split(",")))
    if unknown := [gpu for gpu in gpus if gpu not in visible]:
        there = f"GPUs {', '.join(visible)}" if visible else "no GPU"
        raise UsageError(
            f"--gpus {', '.join(unknown)!r}: this machine shows {there}; or write all or none"
        )
    return gpus


def environment_of(gpu: str | None, processes: int, *, on_cpu: bool = False) -> dict[str, str]:
    """A child's environment: its one GPU, or on request none, and how many share the machine."""
    environment = {
        **os.environ,
        "REELVEC_PROCESSES": os.environ.get("REELVEC_PROCESSES") or str(processes),
    }
    environment["PYTHONSAFEPATH"] = (
        "1"  # nor does a Python that it starts import from the current folder
    )
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    if on_cpu:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "REELVEC_DEVICE": "cpu"}
    return environment


def next_delay_seconds(previous_seconds: float, lived_seconds: float) -> float:
    """How long to wait before a process is started again; `previous_seconds` is 0 before the first
    time.
    """
    if not previous_seconds or lived_seconds >= LONG_LIFE_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * previous_seconds, MAX_DELAY_SECONDS)


def command_of(name: str) -> list[str]:
    command = [
        sys.executable,
        "-P",
        "-m",
        "workers.celery_command",
        "-A",
        "workers.app",
        "worker",
        "-n",
        f"{name}@%h",
    ]
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]


@dataclass
class Child:
    """One worker process, again and again. `exit_code` is that of the last, negative if a signal
    ended it; `said` what was said of its end, until it is started again.

    `kept_fds` are the descriptors it inherits. Told to stop, it has `stop_seconds` before it is
    killed.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    kept_fds: Sequence[int] = ()
    stop_seconds: float = 60.0
    exit_code: int = 0
    said: str = ""
    _started: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def keep_alive(self) -> None:
        """Until it ends for good or `stop` was called."""
        delay_seconds = 0.0
        while not self._stopping.is_set():
            self._started = time.monotonic()
            self.exit_code = self._run()
            if self._stopping.is_set():
                return
            what = then(self.exit_code)
            if what is Then.STAYS_DOWN:
                self._say(f"ended with {self.exit_code} and is not started again")
                return
            if what is Then.AT_ONCE:
                delay_seconds = 0.0
                self._say(f"ended with {self.exit_code}; starting it again at once")
            else:
                delay_seconds = next_delay_seconds(delay_seconds, time.monotonic() - self._started)
                self._say(f"ended with {self.exit_code}; starting it again in {delay_seconds:g} s")
                self._stopping.wait(delay_seconds)

    def running_seconds(self) -> float | None:
        """How long its process has been running; None: there is none now."""
        process = self._process
        return (
            None
            if process is None or process.returncode is not None
            else time.monotonic() - self._started
        )

    def stop(self) -> None:
        """SIGTERM, once; nothing is started any more."""
        with self._starting:
            if self._stopping.is_set():
                return
            self._stopping.set()
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)
                killer = threading.Timer(self.stop_seconds, self._process.kill)
                killer.daemon = True
                killer.start()

    def _run(self) -> int:
        try:
            with self._starting:
                if self._stopping.is_set():
                    return self.exit_code
                # its own session: a ^C reaches it once, through us
                self._process = subprocess.Popen(
                    self.command,
                    env=self.environment,
                    start_new_session=True,
                    pass_fds=self.kept_fds,
                )
        except OSError as error:
            self._say(str(error))
            return ExitCode.NOT_STARTED
        self.said = ""
        code = self._process.wait()
        # SIGTERM ends one that is still starting as it ends any program; both are what it was told
        told = self._stopping.is_set() and code in (-signal.SIGTERM, ExitCode.RECYCLED)
        return ExitCode.OK if told else code

    def _say(self, what: str) -> None:
        self.said = what
        print(f"worker {self.name} {what}", file=sys.stderr)  # noqa: T201


def run(gpus: str = "all", stage: str | None = None) -> int:
    """Supervise the workers of this node until all have ended; returns the first exit code that is
    not 0. `stage`: `sample` for one that only samples; None: as REELVEC_STAGE says.

    Raises `UsageError` for GPUs that are not there and for settings that no child would accept.
    """
    worker_settings.refuse_unknown()
    if stage is not None:
        os.environ["REELVEC_STAGE"] = stage
    chosen = settings.load(WorkerSettings)
    named: list[tuple[str, str | None]]
    if chosen.stage == "sample":
        named = [("sampler", None)]
    else:
        found = [(f"gpu{gpu}", gpu) for gpu in choose_gpus(gpus, chosen.device)]
        named = [*found] or [("cpu", None)]
    lifeline = Lifeline()
    children = [
        Child(
            name,
            command_of(name),
            environment_of(gpu, len(named), on_cpu=gpus == "none")
            | {"REELVEC_LIFELINE_FD": str(lifeline.worker_end)},
            kept_fds=(lifeline.worker_end,),
            stop_seconds=chosen.drain_seconds + SPARE_SECONDS,
        )
        for name, gpu in named
    ]
    with health.of_node(chosen.health_address, children):
        return supervise(children, spot_notice=chosen.spot_notice)


def supervise(children: Sequence[Child], *, spot_notice: str | None = None) -> int:
    """Keep children alive until each has ended for good; signals (`EndSignals`) and a spot notice
    stop them.
    """
    events: SimpleQueue[Child | None] = SimpleQueue()  # a child that ended for good, or None: stop

    def keep(child: Child) -> None:
        try:
            child.keep_alive()
        finally:
            events.put(child)

    EndSignals(lambda _: events.put(None))
    if spot_notice is not None:
        notice.watch(spot_notice, lambda: events.put(None))
    for child in children:
        threading.Thread(target=keep, args=(child,), name=child.name).start()
    left = len(children)
    while left:
        if events.get() is None:
            for child in children:
                child.stop()
        else:
            left -= 1
    return next((as_in_a_shell(child.exit_code) for child in children if child.exit_code != 0), 0)


def as_in_a_shell(exit_code: int) -> int:
    """128 and the signal for a process that a signal ended."""
    return exit_code if exit_code >= 0 else 128 - exit_code
