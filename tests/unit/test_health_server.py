"""The pages and who asks for them: probes, and clients that are slow, many, large or wrong."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.health import node, server
from workers.health.address import Address, Tcp
from workers.health.node import ask
from workers.health.server import Answer

SOON = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def served() -> Iterator[Tcp]:
    address = Tcp("127.0.0.1", free_port())
    with server.serving(
        address, {"/good": lambda: Answer(200, "ja\n"), "/bad": lambda: Answer(503, "why\n")}
    ):
        yield address


def request(address: Tcp, method: str, page: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=SOON)
    try:
        connection.request(method, page)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def talk(address: Tcp, *parts: bytes) -> bytes:
    """Everything the server says to some bytes, up to its end of the connection."""
    with socket.create_connection(address, timeout=SOON) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_pages_are_served_and_nothing_else(served: Tcp) -> None:
    assert request(served, "GET", "/good") == (200, "ja\n")
    assert request(served, "GET", "/good?probe=1") == (200, "ja\n")
    assert request(served, "GET", "/bad") == (503, "why\n")
    assert talk(served, b"HEAD /bad HTTP/1.1\r\n\r\n").endswith(b"Content-Length: 4\r\n\r\n")
    assert request(served, "GET", "/../etc/passwd") == (404, "/good /bad\n")
    for method in ("POST", "DELETE", "NONSENSE"):
        assert request(served, method, "/good")[0] == 501
    told = talk(served, b"GET /good HTTP/1.1\nHost: a\n\n").decode()
    assert "Server: reelvec" in told
    assert "Python" not in told


@pytest.mark.parametrize(
    "garbage",
    [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b"GET " + b"/a" * 100_000 + b" HTTP/1.1\r\n\r\n",
     b"GET /good HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\n", b"GET /good HTTP/9.9\r\n\r\n"],
)  # fmt: skip
def test_garbage_harms_nobody(served: Tcp, garbage: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # more is sent than is read
        talk(served, garbage)
    assert request(served, "GET", "/good") == (200, "ja\n")


def test_no_more_is_read_than_a_page_takes(served: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_REQUEST_BYTES", 10)
    assert b" 200 " in talk(served, b"GET /good HTTP/1.1\r\n"), (
        "an end of the request is not waited for"
    )


def test_many_silent_clients_keep_no_probe_out(
    served: Tcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 3600.0)
    monkeypatch.setattr("workers.health.server._Handler.timeout", 3600.0)
    threads = threading.active_count()
    silent = [
        socket.create_connection(served, timeout=SOON) for _ in range(5 * server.MAX_CONNECTIONS)
    ]
    try:
        assert request(served, "GET", "/good") == (200, "ja\n")
        assert silent[0].recv(1) == b"", "the oldest was cut"
        eventually(lambda: threading.active_count() <= threads + server.MAX_CONNECTIONS)
    finally:
        for connection in silent:
            connection.close()


def test_a_client_that_trickles_is_cut(served: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)

    def is_cut(connection: socket.socket) -> bool:
        try:
            connection.sendall(b"x")
        except ConnectionError:
            return True
        return False

    with socket.create_connection(served, timeout=SOON) as connection:
        eventually(lambda: is_cut(connection))


def test_a_page_that_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    address = Tcp("localhost", free_port())
    with server.serving(
        address, {"/good": lambda: Answer(200, "ja\n"), "/odd": lambda: Answer(int("x"), "")}
    ):
        assert talk(address, b"GET /odd HTTP/1.1\r\n\r\n") == b""
        assert request(address, "GET", "/good") == (200, "ja\n")
    assert "invalid literal" in caplog.text


@pytest.mark.parametrize("host", ["", "::1", "0.0.0.0"])
def test_it_listens_where_it_is_told_to(host: str) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    address = Tcp(host, free_port())
    with server.serving(address, {"/good": lambda: Answer(200, "ja\n")}):
        reached = Tcp(host if host == "::1" else "127.0.0.1", address.port)
        assert request(reached, "GET", "/good") == (200, "ja\n")


@pytest.mark.parametrize(
    "address",
    [
        None,
        Tcp("no-such-host.invalid", 9100),
        Path("/nonexistent/folder/health.sock"),
        Path("/tmp/" + 200 * "x"),
    ],
)
def test_an_address_that_cannot_be_had_is_a_warning(
    address: Address | None, served: Tcp, caplog: pytest.LogCaptureFixture
) -> None:
    with server.serving(address or served, {}):
        pass
    assert f"health is not served on {address or served}: " in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert request(served, "GET", "/good") == (200, "ja\n"), "who has the port keeps it"


def test_the_socket_that_a_killed_process_left_is_replaced_and_a_living_one_is_not(
    reachable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = reachable / "health.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with server.serving(path, {"/good": lambda: Answer(200, "first\n")}):
        with server.serving(path, {"/good": lambda: Answer(200, "second\n")}):
            assert ask(path, "/good").body == "first\n"
        assert ask(path, "/good").body == "first\n"
    assert "health is not served on" in caplog.text
    assert not path.exists()
    path.write_text("a file of somebody's")
    with server.serving(path, {}):
        pass
    assert path.read_text() == "a file of somebody's"


class Process:
    """A supervised process that is played by this one."""

    name, said = "gpu0", "ended with 71; starting it again in 5 s"

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.running: float | None = 1.0

    def running_seconds(self) -> float | None:
        return self.running


def test_a_node_asks_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(node, "ANSWER_SECONDS", 0.2)
    process, address = Process(), Tcp("127.0.0.1", free_port())

    def says(status: int, body: str) -> None:
        eventually(lambda: request(address, "GET", "/healthz") == (status, f"gpu0: {body}\n"))

    with node.serving(address, [process]):
        path = Path(process.environment["REELVEC_HEALTH"])
        assert path.parent.stat().st_mode & 0o777 == 0o700
        says(200, "starting")
        process.running = node.START_SECONDS + 1
        says(503, "not healthy: it gave no answer in 0.2 s")
        own = {
            "/healthz": Answer(200, "ok\n"),
            "/readyz": Answer(200, "ok\n"),
            "/metrics": Answer(200, "up 1\n"),
        }
        with server.serving(
            path, {page: lambda answer=answer: answer for page, answer in own.items()}
        ):  # type: ignore[misc]
            says(200, "ok")
            assert request(address, "GET", "/readyz") == (200, "gpu0: ok\n")
            assert 'up{gpu="gpu0"} 1.0' in request(address, "GET", "/metrics")[1]
        with socket.socket(socket.AF_UNIX) as hanging:  # takes connections and never answers
            hanging.bind(str(path))
            hanging.listen(1)
            says(503, "not healthy: it gave no answer in 0.2 s")
            assert 'reelvec_worker_up{gpu="gpu0"} 0.0' in request(address, "GET", "/metrics")[1]
        process.running = None
        says(200, process.said)
        assert request(address, "GET", "/readyz")[0] == 503
    assert not path.parent.exists()


def test_a_node_without_a_folder_for_its_sockets_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    process = Process()
    with node.serving(Tcp("127.0.0.1", free_port()), [process]):
        assert process.environment == {}
    assert "health is not served: no folder" in caplog.text
