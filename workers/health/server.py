"""A small HTTP server for a few fixed pages that are made from memory. It has no authentication and
nothing to hide.

Whoever asks costs little: GET and HEAD only, a request has a few seconds in all, and where too many
are open the oldest one is cut, so that slow clients cannot keep a probe out.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, NamedTuple

from workers.health.address import Address

log = logging.getLogger(__name__)

#: Connections open at once, how long each may take, and how much of a request is read.
MAX_CONNECTIONS = 16
REQUEST_SECONDS = 5.0
MAX_REQUEST_BYTES = 8192

PLAIN_TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """`status` is that of HTTP, `body` UTF-8 text."""

    status: int
    body: str
    content_type: str = PLAIN_TEXT


#: Makes the answer of a path. It is called from several threads and must return at once.
Page = Callable[[], Answer]


@contextlib.contextmanager
def serving(address: Address, pages: Mapping[str, Page]) -> Iterator[None]:
    """Serve the pages, by path, until the end. An address that cannot be had is a warning: health
    is never worth a worker.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_started(address, pages))
        except OSError as error:
            log.warning("health is not served on %s: %s", address, error.strerror or error)
        yield


@contextlib.contextmanager
def _started(address: Address, pages: Mapping[str, Page]) -> Iterator[None]:
    server = _Server(_listen(address), pages)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    log.info("health is served on %s", address)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        if isinstance(address, Path):
            address.unlink(missing_ok=True)


def _listen(address: Address) -> socket.socket:
    if isinstance(address, Path):
        return _listen_unix(address)
    if not address.host:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        return socket.create_server(("", address.port), family=family, dualstack_ipv6=dual)
    family, _, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    return socket.create_server(where, family=family)


def _listen_unix(path: Path) -> socket.socket:
    """A socket file that nobody listens on any more was left by a process that was killed; it is
    replaced.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if path.is_socket():
                path.unlink()
        except FileNotFoundError:
            pass
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        listening.listen(MAX_CONNECTIONS)
    except OSError:
        listening.close()
        raise
    return listening


class _Server(ThreadingMixIn, TCPServer):
    """One daemon thread per connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, pages: Mapping[str, Page]) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.pages = pages
        self._open_since: dict[socket.socket, float] = {}  # oldest first
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open_since) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open_since))
                del self._open_since[oldest]
                _cut(oldest)
            self._open_since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open_since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called after every connection and twice a second: those that take too long are cut,
        however they trickle.
        """
        too_old = time.monotonic() - REQUEST_SECONDS
        with self._lock:
            for request, since in self._open_since.items():
                if since < too_old:
                    _cut(request)

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # which means that the client has left
            log.exception("health could not answer")


def _cut(request: socket.socket) -> None:
    """Its thread sees the end of the connection and ends."""
    with contextlib.suppress(OSError):  # it has just ended by itself
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_SECONDS
    server_version = "reelvec"
    sys_version = ""

    def setup(self) -> None:
        """Read the whole request, or as much of it as anybody needs to ask for a page."""
        super().setup()
        head = b""
        while len(head) < MAX_REQUEST_BYTES and not (b"\r\n\r\n" in head or b"\n\n" in head):
            part = self.connection.recv(4096)
            if not part:
                break
            head += part
        self.rfile = BytesIO(head)

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        answer = page() if page else Answer(404, f"{' '.join(self.server.pages)}\n")
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *_: Any) -> None:
        """Nothing: a probe a second is no news."""
