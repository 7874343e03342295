"""The proxy that fault tests rely on does to connections what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that says back in capitals what it hears; `host:port`."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data.upper())
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def proxy(echo: str) -> Iterator[Proxy]:
    with Proxy(echo) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with dial(proxy) as made:
        assert ask(made, b"ready") == b"READY"
        yield made


def through(listening: socket.socket) -> Proxy:
    return Proxy(f"127.0.0.1:{listening.getsockname()[1]}")


def dial(proxy: Proxy) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    made.settimeout(20)
    return made


def ask(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(1 << 16)


def assert_silent(client: socket.socket, words: bytes = b"anybody?") -> None:
    client.sendall(words)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(20)


def test_it_passes_bytes_on(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"hello") == b"HELLO"
    with dial(proxy) as second:
        assert ask(second, b"too") == b"TOO"
    assert proxy.connections == 2


def test_an_address_leads_through_it(proxy: Proxy) -> None:
    assert proxy.url("redis://:pw@db:1234/0?x=y") == f"redis://:pw@127.0.0.1:{proxy.port}/0?x=y"
    assert proxy.url("http://db:1234/path") == f"http://127.0.0.1:{proxy.port}/path"


def test_a_delay_and_a_slow_line(proxy: Proxy, client: socket.socket) -> None:
    proxy.slow(delay_seconds=0.1)
    started = time.monotonic()
    assert ask(client, b"late") == b"LATE"
    assert time.monotonic() - started >= 0.2, "late in both directions"
    proxy.slow(bytes_per_second=1_000)
    started = time.monotonic()
    assert ask(client, b"x" * 100) == b"X" * 100
    assert time.monotonic() - started >= 0.2
    proxy.forward()
    assert ask(client, b"fast") == b"FAST"


def test_rst_and_fin(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with dial(proxy) as second:
        assert ask(second, b"new") == b"NEW"
        assert proxy.cut(reset=False) == 1
        assert second.recv(1) == b""
    assert proxy.live() == 0


def test_a_black_hole_takes_everything_and_gives_nothing(
    proxy: Proxy, client: socket.socket
) -> None:
    assert proxy.black_hole() == 1
    client.sendall(b"x" * (16 << 20))  # more than all buffers hold: it is taken, and acknowledged
    assert_silent(client)
    with dial(proxy) as second:
        assert_silent(second)
    proxy.forward()
    assert_silent(client)
    with dial(proxy) as third:
        assert ask(third, b"alive") == b"ALIVE"
    assert proxy.live() >= 1, "the dead connection is still open at both ends"


def test_a_black_hole_for_old_connections_only(proxy: Proxy, client: socket.socket) -> None:
    proxy.black_hole(new=False)
    assert_silent(client)
    with dial(proxy) as second:
        assert ask(second, b"alive") == b"ALIVE"


def test_half_open(echo: str) -> None:
    """Only one direction dies: the server still hears, or the client does."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, through(listening) as proxy, dial(proxy) as client:
        server, _ = listening.accept()
        with server:
            proxy.black_hole("answer")
            client.sendall(b"one")
            heard.append(server.recv(10))
            server.sendall(b"two")
            assert_silent(client, b"three")
            heard.append(server.recv(10))
    assert heard == [b"one", b"three"]


def test_the_end_of_a_connection_does_not_come_through_a_black_hole() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, through(listening) as proxy:
        client = dial(proxy)
        server, _ = listening.accept()
        with server:
            proxy.black_hole()
            client.close()
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.recv(1)


def test_frozen_bytes_arrive_later(proxy: Proxy, client: socket.socket) -> None:
    proxy.freeze()
    assert_silent(client, b"one")
    with dial(proxy) as second:
        assert_silent(second, b"two")
        proxy.forward()
        assert client.recv(10) == b"ONE"
        assert second.recv(10) == b"TWO"


def test_refused(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    assert ask(client, b"old") == b"OLD"
    proxy.forward()
    with dial(proxy) as second:
        assert ask(second, b"new") == b"NEW"


def test_broken_after_so_many_bytes(proxy: Proxy, client: socket.socket) -> None:
    """Bytes of the whole connection count, and only the next connections are broken, not all."""
    proxy.trap(direction="answer", after_bytes=7)
    client.sendall(b"hello")
    assert client.recv(10) == b"HE", "5 bytes came before"
    assert client.recv(10) == b""
    with dial(proxy) as second:
        assert ask(second, b"hello world") == b"HELLO WORLD"
        proxy.trap(direction="answer", after_bytes=15, then="black_hole")
        assert ask(second, b"hello world") == b"HELL"
        assert_silent(second)


def test_broken_at_a_word() -> None:
    """The word arrives; its answer does not."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        through(listening) as proxy,
        dial(proxy) as client,
    ):
        server, _ = listening.accept()
        with server:
            proxy.trap(direction="request", at=b"COMMIT")
            client.sendall(b"BEGIN")
            assert server.recv(10) == b"BEGIN"
            client.sendall(b"COMMIT")
            assert server.recv(10) == b"COMMIT"
            assert server.recv(10) == b""
            assert client.recv(10) == b""


def test_a_server_that_is_away(client: socket.socket, proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        before_nobody = through(gone)
    with before_nobody, dial(before_nobody) as lonely:
        assert lonely.recv(1) == b""
