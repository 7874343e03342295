"""The proxies that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, read as
curl reads them.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from base64 import b64encode
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

from db import known_secrets
from db.errors import RefusedConfigurationError


@dataclass(frozen=True)
class Proxy:
    """`variable`: who named it. `authorization`: the value of Proxy-Authorization, None without a
    password.
    """

    variable: str
    host: str
    port: int
    authorization: str | None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy by which a server is to be asked. Raises `RefusedConfigurationError` for one that
    cannot be used.
    """
    named = getproxies_environment()
    chosen = next((name for name in (scheme, "all") if named.get(name)), None)
    if chosen is None or any(
        _covers(entry, host, port) for entry in re.split(r"[,\s]+", named.get("no", ""))
    ):
        return None
    return _parsed(_variable(chosen), named[chosen])


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY is about a server: `*`, a host and what lies below it, with or
    without a port, a network like `10.0.0.0/8`."""
    host = host.strip("[]").lower()
    if "/" in entry:
        with suppress(ValueError):
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        return False
    name = entry.lower().removeprefix("*.").lstrip(".").removesuffix(f":{port}").strip("[]")
    return entry == "*" or (name != "" and (host == name or host.endswith(f".{name}")))


def _variable(kind: str) -> str:
    lower = f"{kind}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _parsed(variable: str, value: str) -> Proxy:
    """No message shows the value: it may hold a password."""
    scheme, separator, rest = value.strip().partition("://")
    login, _, address = (rest if separator else scheme).rpartition("@")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if (separator and scheme.lower() != "http") or not host or parts.path not in ("", "/"):
        kind = (
            f"{scheme}://..."
            if separator and re.fullmatch(r"[a-z0-9]+", scheme, re.IGNORECASE)
            else "something else"
        )
        raise RefusedConfigurationError(
            f"{variable} names a proxy that cannot be used ({kind}): write http://host:port, or"
            " http://user:password@host:port; NO_PROXY names hosts that are asked without it"
        )
    authorization = None
    if login:
        user, _, password = map(unquote, login.partition(":"))
        known_secrets.remember(variable, (password,))
        authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(variable, host, port or 80, authorization)


def tunnel(connected: socket.socket, proxy: Proxy, address: str, port: int) -> None:
    """Have a proxy lead a new connection on to an address. Raises `OSError` saying what it
    answered.
    """
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    lines = [
        f"CONNECT {target} HTTP/1.1",
        f"Host: {target}",
        *(f"{name}: {value}" for name, value in proxy.headers.items()),
    ]
    connected.sendall("\r\n".join([*lines, "", ""]).encode())
    with closing(HTTPResponse(connected, method="CONNECT")) as answer:
        answer.begin()
        if answer.status != 200:
            raise OSError(f"Tunnel connection failed: {answer.status} {answer.reason}")
