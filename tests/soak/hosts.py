"""Hosts on one machine: network namespaces with names and addresses of their own, joined by a bridge
that a test's own process sees as `ADDRESS`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import WorkerProcess
from tests.fleet import Fleet

#: Where the hosts find what the test's own process serves.
ADDRESS = "10.213.18.1"


def can_be_made() -> bool:
    """It takes root and iproute2."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "unshare", "hostname"))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass(frozen=True)
class Host:
    """`link` is its cable's end at the bridge."""

    name: str
    link: str

    def within(self, command: list[str]) -> list[str]:
        """The command that runs `command` there, in the same process."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.name, *named, *command]

    def cut_off(self) -> None:
        """Nothing gets through, and nobody is told."""
        ip("link", "set", self.link, "down")

    def connect(self) -> None:
        ip("link", "set", self.link, "up")


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """So many hosts on one bridge, gone afterwards."""
    mark = f"rv{os.getpid()}"
    hosts = [Host(f"{mark}-host{number}", f"{mark}v{number}") for number in range(count)]
    ip("link", "add", mark, "type", "bridge")
    try:
        ip("addr", "add", f"{ADDRESS}/24", "dev", mark)
        ip("link", "set", mark, "up")
        for number, host in enumerate(hosts, 2):
            _plug_in(host, mark, ADDRESS.rpartition(".")[0] + f".{number}/24")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], check=False)
            subprocess.run(["ip", "link", "del", host.link], check=False)
        subprocess.run(["ip", "link", "del", mark], check=False)


def _plug_in(host: Host, bridge: str, address: str) -> None:
    inside = ("-n", host.name)
    ip("netns", "add", host.name)
    ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    ip("link", "set", host.link, "master", bridge, "up")
    ip(*inside, "addr", "add", address, "dev", "eth0")
    ip(*inside, "link", "set", "eth0", "up")
    ip(*inside, "link", "set", "lo", "up")


class WorkerThere(WorkerProcess):
    """A worker process on a host."""

    def __init__(self, host: Host, environment: dict[str, str], folder: Path, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-n", log.stem]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                host.within(command), env=environment, cwd=folder, stdout=out, stderr=out
            )


@dataclass
class Spread(Fleet):
    """A fleet with a host for each worker."""

    hosts: list[Host] | None = None

    def _process(self, index: int, environment: dict[str, str], log: Path) -> WorkerProcess:
        assert self.hosts is not None
        return WorkerThere(self.hosts[index], environment, self.folder, log)

    def embedded_from_frames(self) -> int:
        """Videos that one host has sampled and another embedded."""
        query = "SELECT count(*) FROM reelvec.jobs WHERE frames_seconds IS NOT NULL"
        return int(str(self._rows(query)[0][0]))
