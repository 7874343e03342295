"""Where health is served: what `REELVEC_HEALTH` may be. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Tcp(NamedTuple):
    """An empty `host` means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = Tcp | Path

#: A port alone is for this machine; `:9100` says that others may ask.
_FORM = re.compile(
    r"(?:(?P<host>|[^\s:/\[\]]+|\[[0-9A-Fa-f:.%\w]+\]):)?(?P<port>[0-9]{1,5})", re.ASCII
)
LOCAL = "127.0.0.1"


def parse(value: str) -> Address:
    """`host:port`, `[ipv6]:port`, `:port` (every interface), `port` (this machine), `/path` of a
    Unix socket.

    Raises `ValueError` for anything else.
    """
    value = value.strip()
    if value.startswith("/"):
        return Path(value)
    match = _FORM.fullmatch(value)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise ValueError(
            "an address is host:port, [IPv6]:port, :port (every interface), port (this machine "
            "only) or the /path of a Unix socket, with a port from 1 to 65535"
        )
    host = LOCAL if match["host"] is None else match["host"].strip("[]")
    return Tcp(host, int(match["port"]))
