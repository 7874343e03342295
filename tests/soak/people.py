"""What people do meanwhile: strikes of the nemesis that need the commands or several producers at
once.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.conftest import clean_environment
from tests.fleet import Fleet

PRODUCERS = 2
ROWS = 300


def enqueue_together(fleet: Fleet, random: Random) -> None:
    """Two producers enqueue the same videos at once, each with titles of its own and in an order of
    its own.
    """
    uris = random.sample(sorted(fleet.footage.golden), min(ROWS, len(fleet.footage.golden)))
    producers = []
    for number in range(PRODUCERS):
        random.shuffle(uris)
        listed = write(
            fleet.folder / f"manifest{number}.csv", uris, f"by producer {number}, {random.random()}"
        )
        producers.append(start(fleet, "enqueue", str(listed), "--backbone", "probe"))
    for producer in producers:
        _, said = producer.communicate(timeout=110)
        assert producer.returncode == 0, f"exit {producer.returncode}: {said}"


def pause_and_resume(fleet: Fleet, random: Random) -> None:
    """`reelvec pause`, then `reelvec pause --resume`, by the command."""
    for words in (("pause",), ("pause", "--resume")):
        command = start(fleet, *words)
        _, said = command.communicate(timeout=110)
        assert command.returncode == 0, f"exit {command.returncode}: {said}"


PEOPLE: dict[str, Callable[[Fleet, Random], None]] = {
    "enqueue": enqueue_together,
    "pause": pause_and_resume,
}


def write(path: Path, uris: list[str], title: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "title"])
        rows.writerows([uri, title] for uri in uris)
    return path


def start(fleet: Fleet, *words: str) -> subprocess.Popen[str]:
    """One of the project's commands, at the servers themselves."""
    servers = fleet.servers
    environment = {"DATABASE_URL": servers.database_url, "CELERY_BROKER_URL": servers.broker_url}
    entry = "from producer.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", entry, *words],
        env={
            **clean_environment(),
            **environment,
            "REELVEC_DATA_DIR": str(fleet.folder / "no-stack-of-its-own"),
        },
        cwd=fleet.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
