"""The health of all worker processes of a node, as their supervisor sees it.

Each process serves its own on a socket in a folder of ours and is asked every few seconds, so that
one that hangs holds up no answer of ours.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple, Protocol

from workers.health import metrics, server
from workers.health.address import Address
from workers.health.server import Answer

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
#: A process that takes longer to answer does not answer.
ANSWER_SECONDS = 2.0
#: Nothing listens until torch is imported, which takes minutes from a cold disk of the network.
START_SECONDS = 300.0


class Process(Protocol):
    """A supervised process. `said`: how it ended and what comes now, where that was nobody's
    wish.
    """

    name: str
    environment: dict[str, str]
    said: str

    def running_seconds(self) -> float | None:
        """How long it has been running; None: it is not."""
        ...


class Look(NamedTuple):
    """What was seen of one process. `alive` is False only of one that runs and cannot go on;
    `metrics`: what it gave.
    """

    alive: bool
    ready: bool
    why_not_alive: str
    why_not_ready: str
    metrics: str | None = None


class Pages(NamedTuple):
    """What a process answered."""

    healthz: Answer
    readyz: Answer
    metrics: Answer


STARTING = Look(True, False, "starting", "starting")


@contextlib.contextmanager
def serving(address: Address, processes: Sequence[Process]) -> Iterator[None]:
    """Serve the health of all of them until the end. Called before they are started, as it tells
    them where to serve theirs.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="reelvec-")
            )  # for this user only
        except OSError as error:
            log.warning("health is not served: no folder for the sockets of the workers: %s", error)
        else:
            watches = [
                Watch(process, Path(folder) / f"{number}.sock")
                for number, process in enumerate(processes)
            ]
            for watch in watches:
                stack.callback(watch.stop)
            stack.enter_context(server.serving(address, pages_of(watches)))
        yield


class Watch:
    """Looks at one process, again and again; `seen` is the last look."""

    def __init__(self, process: Process, path: Path) -> None:
        self.name = process.name
        self.seen = STARTING
        self._process = process
        self._path = path
        self._stopping = threading.Event()
        process.environment["REELVEC_HEALTH"] = str(path)
        threading.Thread(target=self._repeat, name=f"health-{self.name}", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _repeat(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.seen = self._look()

    def _look(self) -> Look:
        running_seconds = self._process.running_seconds()
        if running_seconds is None:
            told = self._process.said or "ended"
            return Look(True, False, told, told)
        try:
            return judge(Pages(*(ask(self._path, f"/{page}") for page in Pages._fields)))
        except (FileNotFoundError, ConnectionRefusedError):  # nobody listens
            return STARTING if running_seconds < START_SECONDS else silent()
        except (OSError, HTTPException):
            return silent()


def judge(pages: Pages) -> Look:
    """What the answers of a process say of it."""
    alive, ready = pages.healthz.status == 200, pages.readyz.status == 200
    told_alive, told_ready = ("; ".join(page.body.splitlines()) for page in pages[:2])
    return Look(alive, ready, told_alive, told_ready, pages.metrics.body)


def silent() -> Look:
    told = f"it gave no answer in {ANSWER_SECONDS:g} s"
    return Look(False, False, told, told)


def pages_of(watches: Sequence[Watch]) -> dict[str, server.Page]:
    """Alive: every process that runs can go on. Ready: one of them, at least, takes work."""

    def healthz() -> Answer:
        looks = {watch.name: watch.seen for watch in watches}
        lines = [
            _line(name, look.alive, "not healthy", look.why_not_alive)
            for name, look in looks.items()
        ]
        return Answer(200 if all(look.alive for look in looks.values()) else 503, "".join(lines))

    def readyz() -> Answer:
        looks = {watch.name: watch.seen for watch in watches}
        lines = [
            _line(name, look.ready, "not ready", look.why_not_ready) for name, look in looks.items()
        ]
        return Answer(200 if any(look.ready for look in looks.values()) else 503, "".join(lines))

    def all_metrics() -> Answer:
        return Answer(
            200,
            metrics.of_all({watch.name: watch.seen.metrics for watch in watches}),
            metrics.CONTENT_TYPE,
        )

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": all_metrics}


def _line(name: str, good: bool, otherwise: str, told: str) -> str:
    return f"{name}: {told}\n" if good else f"{name}: {otherwise}: {told}\n"


def ask(path: Path, page: str) -> Answer:
    """A page of a process. Raises `OSError` and `HTTPException` where there is no answer."""
    with contextlib.closing(_Connection(path)) as connection:
        connection.request("GET", page)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
