"""What a node says of itself while it works, hangs, and waits for servers that are away."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from db.stack.local_stack import LocalStack, StackState
from tests.conftest import FAST, Desk, WorkerProcess
from tests.golden_run import small_clips

GPU = '{gpu="cpu"}'


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def supervisor(desk: Desk, port: int, tmp_path: Path) -> Iterator[psutil.Popen]:
    variables = {"REELVEC_SAMPLERS": "1", "REELVEC_HEALTH": f":{port}", "TMPDIR": str(tmp_path)}
    command = [Path(sys.executable).with_name("reelvec"), "worker", "--gpus", "none"]
    with (tmp_path / "supervisor.log").open("wb") as log:
        started = psutil.Popen(
            command, env={**desk.environment, **FAST, **variables}, stdout=log, stderr=log
        )
    yield started
    for process in [*started.children(recursive=True), started] if started.is_running() else []:
        process.kill()
    started.wait()


def page(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


def test_a_node_tells_its_health(
    desk: Desk,
    supervisor: psutil.Popen,
    port: int,
    start_worker: Callable[..., WorkerProcess],
    local: LocalStack,
    engine: Engine,
    tmp_path: Path,
) -> None:
    def says(path: str, status: int, told: str) -> None:
        until(
            lambda: page(port, path) == (status, f"cpu: {told}\n"), lambda: (told, page(port, path))
        )

    def has_metric(line: str) -> None:
        until(
            lambda: line in page(port, "/metrics")[1].splitlines(),
            lambda: page(port, "/metrics")[1],
        )

    small_clips(tmp_path / "one", 1)
    small_clips(tmp_path / "two", 2)
    says("/readyz", 200, "ok")
    assert page(port, "/healthz") == (200, "cpu: ok\n")
    assert page(port, "/other")[0] == 404
    assert f"reelvec_worker_slots{GPU} 3.0" in page(port, "/metrics")[1]
    desk.run("enqueue", str(tmp_path / "one"), "--backbone", "probe", "--wait")
    has_metric('reelvec_worker_videos_total{gpu="cpu",outcome="done"} 1.0')

    # a process that hangs; meanwhile another worker, whose port is taken, does its work
    other = start_worker(REELVEC_HEALTH=f"127.0.0.1:{port}")
    until(lambda: "ready on cpu" in other.log())
    assert f"health is not served on 127.0.0.1:{port}: Address already in use" in other.log()
    child = supervisor.children()[0]
    child.suspend()
    says("/healthz", 503, "not healthy: it gave no answer in 2 s")
    assert page(port, "/readyz") == (503, "cpu: not ready: it gave no answer in 2 s\n")
    assert f"reelvec_worker_up{GPU} 0.0" in page(port, "/metrics")[1]
    desk.run("enqueue", str(tmp_path / "two"), "--backbone", "probe", "--wait")
    assert other.stop() == 0
    child.resume()
    says("/readyz", 200, "ok")

    # servers that are away are no fault of the process
    def without(server: Callable[[StackState], int], told: str) -> None:
        state = local.state()
        assert state is not None
        pid = server(state)
        os.kill(pid, signal.SIGKILL)
        until(lambda: told in page(port, "/readyz")[1], lambda: page(port, "/readyz"))
        assert page(port, "/readyz")[0] == 503
        assert page(port, "/healthz") == (200, "cpu: ok\n")
        has_metric(f"reelvec_worker_up{GPU} 1.0")
        until(lambda: not psutil.pid_exists(pid) or local.state() is None)
        local.up()
        says("/readyz", 200, "ok")

    without(lambda state: state.postgres_pid, "Postgres has accepted no heartbeat")
    without(lambda state: state.broker_pid, "the broker is not connected")
    engine.dispose()

    child.kill()
    until(lambda: "starting it again" in page(port, "/readyz")[1], lambda: page(port, "/readyz"))
    assert page(port, "/healthz")[0] == 200
    supervisor.terminate()
    supervisor.wait(timeout=40)
    assert page(port, "/healthz") == (0, "")
    assert not list(tmp_path.glob("reelvec-*")), "the folder of the sockets is gone"
