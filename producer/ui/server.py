"""The page's server: on loopback, one process, gone with the command."""

from __future__ import annotations

import ipaddress
import socket
import threading
import webbrowser
from typing import TYPE_CHECKING

from db.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

#: Open pages keep their connection; the command ends all the same.
GOODBYE_SECONDS = 1


def listen(host: str, port: int) -> socket.socket:
    """A socket on a loopback address; port 0: any that is free. Raises `UsageError`."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise UsageError(
            f"--host {host}: the page asks nobody who he is yet, so it listens on loopback only "
            "(127.0.0.1, ::1). From another machine: ssh -L 8740:127.0.0.1:8740 THIS_MACHINE"
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port))
        made.listen()
    except OSError as error:
        made.close()
        raise UsageError(
            f"port {port} of {address} cannot be had: {error.strerror}; --port 0 takes any that is "
            "free"
        ) from error
    return made


def names(listening: socket.socket) -> tuple[str, frozenset[str]]:
    """The page's address, and every way of naming its host and port."""
    address, port = listening.getsockname()[:2]
    literal = f"[{address}]" if ":" in address else address
    hosts = {f"{literal}:{port}", f"localhost:{port}"}
    return f"http://{literal}:{port}/", frozenset(hosts)


def serve(app: Starlette, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Until Ctrl-C or SIGTERM. `ready` is called once the page answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app,
        log_config=None,  # the project's own logging masks secrets
        log_level="warning",
        access_log=False,  # an address may say what somebody searched for
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    Server(config).run([listening])


def open_browser(address: str) -> None:
    """In a thread: some browsers are waited for until they end."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
