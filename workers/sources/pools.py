"""Pools of connections: TLS always verified, retries ours, and for web addresses to public
addresses only.

Whether an address is public is decided when a connection is made, for the address it is made to. A
name is resolved once and the connection goes to the address that was judged, so that a name which
changes its mind (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Any

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import connection as sockets

from workers.sources.connections import Connection, TLSConnection, by_proxy
from workers.sources.retrying import Limits

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def pool_options(
    limits: Limits, connections: int, *, ca_variables: Sequence[str] = ("SSL_CERT_FILE",)
) -> dict[str, Any]:
    """TLS is always verified, retries are ours.

    `ca_variables`: those that may name a file of authorities to trust instead of the usual ones;
    the first that is set.
    """
    own = next((os.environ[name] for name in ca_variables if os.environ.get(name)), None)
    return {
        "maxsize": connections,
        "timeout": Timeout(connect=limits.wait_seconds, read=limits.wait_seconds),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": own or certifi.where(),
    }


class _Pool(HTTPConnectionPool):
    ConnectionCls = Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection


class PlainPoolManager(PoolManager):
    """As urllib3's, with these connections. Raises `RefusedConfigurationError` for a proxy that
    cannot be used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


class AddressRefusedError(Exception):
    """A host has no public address. Its text is the address it has."""


def is_public(address: str) -> bool:
    """False for private, loopback, link-local, multicast and reserved addresses, also those inside
    an IPv6 one.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inside is None and ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None and not is_public(str(inside)):
            return False
    return ip.is_global and not ip.is_multicast


def _connected(connection: Connection) -> socket.socket:
    """What urllib3's own `_new_conn` does, but only to public addresses; by a proxy, too, to the
    address that was judged.
    """
    try:
        found = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NameResolutionError(connection.host, connection, error) from error  # type: ignore[arg-type]
    addresses = [str(entry[4][0]) for entry in found]
    public = [address for address in addresses if is_public(address)]
    if not public:
        raise AddressRefusedError(addresses[0])
    try:
        if connection.way is not None:
            return by_proxy(connection, connection.way, public[0])
        return sockets.create_connection(
            (public[0], connection.port),
            connection.timeout,
            source_address=connection.source_address,
            socket_options=connection.socket_options,
        )
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"{public[0]} does not answer") from error
    except OSError as error:
        raise NewConnectionError(connection, str(error)) from error


class _PublicConnection(Connection):
    tunnelled = True  # a proxy that fetches would look the name up itself

    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _PublicTLSConnection(_PublicConnection, TLSConnection):
    pass


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTLSPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTLSConnection


class PublicPoolManager(PoolManager):
    """Connects to public addresses only. Raises `AddressRefusedError`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _PublicPool, "https": _PublicTLSPool}
