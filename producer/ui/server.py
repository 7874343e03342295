"""The page's server: one process, gone with the command. On loopback unless another address of this
machine is named.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

#: Open pages keep their connection; the command ends all the same.
GOODBYE_SECONDS = 1


@dataclass(frozen=True)
class Listening:
    """An open socket; the `address` that a browser opens, `hosts`, every way of naming it, and
    whether only this machine reaches it.
    """

    socket: socket.socket
    address: str
    hosts: frozenset[str]
    is_loopback: bool

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port


def listen(host: str, port: int) -> Listening:
    """On one address of this machine, or on a name of it; port 0: any that is free. Raises
    `UsageError`.
    """
    found = _resolved(host)
    if found.is_unspecified:
        raise UsageError(
            f"--host {host}: the page must know what it is called, so that no other name leads to "
            "it: give one address of this machine, or its name"
        )
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((str(found), port))
        made.listen()
    except OSError as error:
        made.close()
        raise UsageError(
            f"port {port} of {found} cannot be had: {error.strerror}; --port 0 takes any that is "
            "free"
        ) from error
    literal = f"[{found}]" if found.version == 6 else str(found)
    names = {literal, "localhost" if found.is_loopback else _as_named(host, literal)}
    own_port = made.getsockname()[1]
    hosts = frozenset(f"{name}:{own_port}" for name in names)
    return Listening(made, f"http://{literal}:{own_port}/", hosts, found.is_loopback)


def _resolved(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return ipaddress.ip_address(found[0][4][0])
    except (OSError, ValueError, UnicodeError) as error:
        raise UsageError(
            f"--host {host}: this is no address of this machine, and no name that leads to one"
        ) from error


def _as_named(host: str, literal: str) -> str:
    """A name as browsers write it; an address has one spelling."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    return literal


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None]) -> None:
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
