"""Proxies that the environment names: used as curl uses them, and never a way around the guard of
private addresses.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from minio.credentials.providers import StaticProvider

from db.errors import ErrorClass, RefusedConfigurationError, VideoError
from tests.http_server import WebServer, serving
from workers.sources.http import HttpStore
from workers.sources.proxies import proxy_for
from workers.sources.retrying import Limits
from workers.sources.s3 import S3Store
from workers.sources.s3_account import Account, Chain

BODY = bytes(range(256)) * 3
LIMITS = Limits(fetch_seconds=30, bytes_per_second=1_000_000, spool_bytes=1 << 30)
PUBLIC = "93.184.215.14"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class WebProxy:
    """Leads every request to one server, whatever host it names. `asked`: the first lines;
    `logins`: with a password.
    """

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.refuses = ""
        self._open = [self._listening]
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(client)
            self._start(self._lead, client)

    def _lead(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        line, _, rest = head.partition(b"\r\n")
        self.asked.append(line.decode())
        self.logins += [
            each[21:]
            for each in rest.decode().split("\r\n")
            if each.startswith("Proxy-Authorization: ")
        ]
        if self.refuses:
            client.sendall(f"HTTP/1.1 {self.refuses}\r\nContent-Length: 0\r\n\r\n".encode())
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._server.port))
        self._open.append(server)
        if line.startswith(b"CONNECT"):
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, address, version = line.split()
            path = b"/" + address.split(b"/", 3)[3]
            server.sendall(b" ".join((method, path, version)) + b"\r\nConnection: close\r\n" + rest)
        self._start(self._pour, client, server)
        self._pour(server, client)

    @staticmethod
    def _pour(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(files={"/v.mp4": BODY, "/bucket/v.mp4": BODY}) as made:
        yield made


@pytest.fixture
def proxy(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebProxy]:
    made = WebProxy(server)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://{made.address}")
    yield made
    made.close()


def read(url: str, *, allow_private: bool = True) -> bytes:
    store = HttpStore(LIMITS, allow_private=allow_private, s3_host=None, connections=1)
    try:
        with store.open(url) as source:
            return source.read(0, len(BODY))
    finally:
        store.close()


def failure_of(url: str, *, allow_private: bool = True) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read(url, allow_private=allow_private)
    return caught.value


def resolves(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    real = socket.getaddrinfo

    def found(host: str, port: int, *arguments: int, **options: int) -> list[object]:
        return list(real(names.get(host, host), port, *arguments, **options))

    monkeypatch.setattr("socket.getaddrinfo", found)


def test_a_web_address_is_asked_of_the_proxy_by_its_name(proxy: WebProxy) -> None:
    assert read("http://videos.invalid/v.mp4") == BODY
    assert proxy.asked == ["GET http://videos.invalid:80/v.mp4 HTTP/1.1"]


def test_an_s3_service_is_asked_of_the_proxy(proxy: WebProxy, server: WebServer) -> None:
    account = Account(
        "s3.invalid",
        secure=False,
        region="x",
        credentials=Chain({"environment": StaticProvider("k", "s")}),
    )
    store = S3Store(account, LIMITS, connections=1)
    with store.open("s3://bucket/v.mp4") as source:
        assert source.read(0, len(BODY)) == BODY
    assert proxy.asked == ["GET http://s3.invalid:80/bucket/v.mp4 HTTP/1.1"]
    store.close()


def test_a_password_of_the_proxy_is_sent_and_never_shown(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:s%40cr3t@{proxy.address}")
    assert read("http://videos.invalid/v.mp4") == BODY
    assert proxy.logins == ["Basic YW5uOnNAY3IzdA=="]
    proxy.refuses = "407 Proxy Authentication Required"
    failed = failure_of("http://videos.invalid/v.mp4")
    assert (failed.code, "wants a password" in str(failed)) == ("unreachable", True)
    assert "cr3t" not in str(failed)


@pytest.mark.parametrize(
    ("listed", "host", "direct"),
    [
        ("*", "a.example", True),
        ("other.example, a.example", "a.example", True),
        ("example", "a.example", True),
        (".example", "a.example", True),
        ("*.example", "a.example", True),
        ("a.example:8080", "a.example", True),
        ("a.example:80", "a.example", False),
        ("ample", "a.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "a.example", False),
        ("::1", "::1", True),
        ("", "a.example", False),
    ],
)
def test_no_proxy_names_what_is_asked_without_it(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch, listed: str, host: str, direct: bool
) -> None:
    monkeypatch.setenv("NO_PROXY", listed)
    assert (proxy_for("http", host, 8080) is None) == direct


def test_each_scheme_has_its_variable(proxy: WebProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https", "a.example", 443) is None
    monkeypatch.setenv("ALL_PROXY", "other.example:3128")
    found = proxy_for("https", "a.example", 443)
    assert found is not None
    assert (found.variable, found.host, found.port) == ("ALL_PROXY", "other.example", 3128)


@pytest.mark.parametrize(
    "value",
    ["socks5://ann:s3cret@host:1080", "https://host", "http://ann:s3cret@", "http://host/p"],
)
def test_a_proxy_that_cannot_be_used_is_refused(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(
        RefusedConfigurationError, match="HTTP_PROXY names a proxy that cannot be used"
    ) as caught:
        read("http://videos.invalid/v.mp4")
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_blamed(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "127.0.0.1:9")
    for scheme in ("http", "https"):
        failed = failure_of(f"{scheme}://videos.invalid/v.mp4")
        assert (failed.code, failed.error_class) == ("unreachable", ErrorClass.INFRA)
        assert (
            f"the proxy 127.0.0.1:9 that {scheme.upper()}_PROXY names does not connect to it"
            in str(failed)
        )


def test_a_tunnel_that_is_refused_is_told(proxy: WebProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    proxy.refuses = "403 Forbidden"
    failed = failure_of("https://videos.invalid/v.mp4")
    assert proxy.asked[0] == "CONNECT videos.invalid:443 HTTP/1.1"
    assert (failed.code, "403 Forbidden" in str(failed)) == ("unreachable", True)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "inside.example"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_no_way_to_a_private_address(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch, scheme: str, host: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    resolves(monkeypatch, **{"inside.example": "192.168.1.1"})
    assert failure_of(f"{scheme}://{host}/v.mp4", allow_private=False).code == "address_refused"
    assert proxy.asked == []


def test_a_proxy_leads_to_the_address_that_was_judged(
    proxy: WebProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked for the name, which it might find to be another address."""
    resolves(monkeypatch, **{"videos.example": PUBLIC})
    assert read("http://videos.example/v.mp4", allow_private=False) == BODY
    assert proxy.asked == [f"CONNECT {PUBLIC}:80 HTTP/1.1"]


def test_a_name_that_only_the_proxy_knows_cannot_be_judged(proxy: WebProxy) -> None:
    failed = failure_of("http://videos.invalid/v.mp4", allow_private=False)
    assert (failed.code, "REELVEC_HTTP_ALLOW_PRIVATE=true" in str(failed)) == ("unreachable", True)
    assert proxy.asked == []
