"""A web server for tests whose every answer can be bent: no ranges, cuts, stalls, redirects, other
versions.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Sees the handler before the server answers; True: it has answered itself.
Bend = Callable[["Handler"], bool]


@dataclass
class WebServer:
    """`files` by path. `requests` are the paths asked for, with the Range header or an empty
    string.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    ranges: bool = True
    stated_length: bool = True
    bend: Bend | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body after its header would wait for 40 ms
    shared: WebServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.shared.requests.append((self.path, asked))
        if self.shared.bend is not None and self.shared.bend(self):
            return
        body = self.shared.files.get(self.path)
        if body is None:
            self.answer(404, b"no such file")
        elif asked and self.shared.ranges:
            self.answer_range(body, asked)
        else:
            self.answer(200, body)

    def answer_range(self, body: bytes, asked: str) -> None:
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last), len(body) - 1)
        if start >= len(body):
            self.answer(416, b"")
            return
        asked_version = self.headers.get("If-Match")
        if asked_version is not None and (
            asked_version != self.shared.etag or asked_version.startswith("W/")
        ):
            self.answer(412, b"")
            return
        self.answer(
            206, body[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
        )

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.begin(
            status, len(body) if self.shared.stated_length or status != 200 else None, headers
        )
        if self.shared.stated_length or status != 200:
            self.wfile.write(body)
        else:
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")

    def begin(self, status: int, length: int | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if self.shared.etag is not None:
            self.send_header("ETag", self.shared.etag)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def cut(self) -> None:
        """End the connection as it is."""
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """A test's output is no place for a server's log."""


@contextmanager
def serving(**facts: object) -> Iterator[WebServer]:
    shared = WebServer(**facts)  # type: ignore[arg-type]
    handler = type("BoundHandler", (Handler,), {"shared": shared})

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that leave early are part of the tests."""

    server = Server(("127.0.0.1", 0), handler)
    shared.port = server.server_address[1]
    if shared.tls is not None:
        server.socket = shared.tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield shared
    finally:
        shared.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
