"""Connections as real networks need them: by the environment's proxies, and past what a server says
before its answer.
"""

from __future__ import annotations

import socket
from http.client import BadStatusLine, HTTPException, HTTPResponse
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProxyError
from urllib3.util import connection as sockets

from workers.sources.proxies import Proxy, proxy_for, tunnel

#: Answers like 103 Early Hints that may come before the real one.
MOST_EARLY_ANSWERS = 10


class FinalResponse(HTTPResponse):
    """http.client takes every answer but 100 for the last one."""

    def begin(self) -> None:
        for _ in range(MOST_EARLY_ANSWERS):
            super().begin()
            if not 102 <= self.status < 200:
                return
            self.headers = self.msg = None  # type: ignore[assignment]  # as before the first line was read
        raise BadStatusLine(f"{MOST_EARLY_ANSWERS} answers {self.status}, and no last one")


class Connection(HTTPConnection):
    """`tunnelled`: a proxy is asked to lead on to an address, not to fetch."""

    scheme = "http"
    tunnelled = False
    response_class = FinalResponse

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.way = proxy_for(self.scheme, self.host, self.port)

    def _new_conn(self) -> socket.socket:
        return by_proxy(self, self.way, self.host) if self.way else super()._new_conn()

    def putrequest(self, method: str, url: str, *arguments: Any, **options: Any) -> None:
        if self.way is None or self.tunnelled:
            super().putrequest(method, url, *arguments, **options)
            return
        host = f"[{self.host}]" if ":" in self.host else self.host
        super().putrequest(method, f"http://{host}:{self.port}{url}", *arguments, **options)
        for name, value in self.way.headers.items():
            self.putheader(name, value)


class TLSConnection(Connection, HTTPSConnection):
    scheme = "https"
    tunnelled = True


def by_proxy(connection: Connection, proxy: Proxy, address: str) -> socket.socket:
    """A socket that leads to an address, or a name that the proxy looks up. Raises urllib3's
    `ProxyError`.
    """
    try:
        made = sockets.create_connection(
            (proxy.host, proxy.port),
            connection.timeout,
            source_address=connection.source_address,
            socket_options=connection.socket_options,
        )
        try:
            if connection.tunnelled:
                tunnel(made, proxy, address, connection.port)
        except BaseException:
            made.close()
            raise
    except (OSError, HTTPException) as error:
        raise ProxyError(
            f"the proxy {proxy.host}:{proxy.port} that {proxy.variable} names", error
        ) from error
    return made
