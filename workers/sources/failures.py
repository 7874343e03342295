"""Errors of the network and HTTP statuses become codes. Messages never hold a query string: it may
be a signature.
"""

from __future__ import annotations

from urllib3 import exceptions as http

from db.errors import VideoError
from workers.sources.schemes import shown
from workers.sources.source import STAGE

_PROXY_LOGIN = (
    "the proxy wants a password: write http://user:password@host:port in HTTP_PROXY and HTTPS_PROXY"
)
#: What OpenSSL calls an answer that is none of TLS, and how TLS answers what is none of it (an
#: alert of version 3).
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
)
_HUNG_UP = ("RemoteDisconnected", "ConnectionResetError")
_TLS_ALERT = r"\x15\x03"
#: An answer to try again after a while.
_BUSY = frozenset({408, 425, 429})


class BusyError(VideoError):
    """server_error, and how long the server asked to be left alone (0: it did not say)."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__("server_error", message, stage=STAGE)
        # it may also be a date, which hardly anybody sends
        self.pause_seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def failure(code: str, uri: str, why: str) -> VideoError:
    return VideoError(code, f"{shown(uri)}: {why}", stage=STAGE)


def from_status(
    status: int, uri: str, word: str = "", *, retry_after: str | None = None
) -> VideoError:
    """What an HTTP status other than 200 and 206 means for the one object it was asked for.

    `retry_after`: the header of that name.
    """
    answer = f"HTTP {status}{f' {word}' if word else ''}"
    if status in (401, 403):
        return failure(
            "access_denied", uri, f"{answer}: it may not be read; with a key that may, try again"
        )
    if status == 407:
        return failure("unreachable", uri, f"{answer}: {_PROXY_LOGIN}")
    if status in (404, 410):
        return failure("not_found", uri, f"{answer}: there is no such object")
    if status in _BUSY or status >= 500:
        return BusyError(f"{shown(uri)}: {answer}: the server could not answer", retry_after)
    return failure("request_refused", uri, f"{answer}: the server does not serve this")


def from_network(error: Exception, uri: str, *, plain: bool | None = None) -> VideoError:
    """What an exception of urllib3 means. Raises the exception again if it is no failure of the
    network.

    `plain`: it was asked without TLS; by default as `uri` says.
    """
    plain = uri.startswith("http:") if plain is None else plain
    if isinstance(error, http.MaxRetryError) and error.reason is not None:
        return from_network(error.reason, uri, plain=plain)
    code, why = "fetch_cut", f"the connection ended early ({type(error).__name__})"
    if isinstance(error, http.NameResolutionError):
        code, why = (
            "unreachable",
            f"there is no host {error.conn.host!r}, or no DNS on this machine",
        )
    elif isinstance(error, http.NewConnectionError):
        code, why = (
            "unreachable",
            f"nobody answers at {error.conn.host}:{error.conn.port} ({_reason(error)})",
        )
    elif isinstance(error, http.ConnectTimeoutError):
        code, why = "unreachable", f"nobody answers ({_reason(error)})"
    elif isinstance(error, http.ProxyError):
        code, why = (
            "unreachable",
            f"{error.args[0].partition(', ')[0]} does not connect to it "
            f"({_reason(error.original_error)})",
        )
        if "407" in why:
            why += f"; {_PROXY_LOGIN}"
    elif isinstance(error, http.SSLError):
        code, why = "unreachable", _tls(str(error))
    elif isinstance(error, http.TimeoutError):
        code, why = "fetch_timeout", "the connection stalled"
    elif isinstance(error, http.ProtocolError) and _TLS_ALERT in str(error):
        code, why = (
            "unreachable",
            "the server wants TLS on this port; write https:// instead of http://",
        )
    elif (
        plain
        and isinstance(error, http.ProtocolError)
        and any(word in str(error) for word in _HUNG_UP)
    ):
        why = (
            "the server ended the connection without an answer; if its port is one with TLS, write "
            "https://"
        )
    elif not isinstance(error, http.HTTPError | OSError):
        raise error
    return failure(code, uri, why)


def _tls(answer: str) -> str:
    """Why TLS failed. Only where a certificate was looked at is it about one."""
    reason = _last_part(answer)
    if any(word in answer for word in _NO_TLS):
        return (
            f"the server does not speak TLS on this port ({reason}); write http:// instead of "
            "https://"
        )
    if "EOF" in answer or "certificate" not in answer.lower():
        return (
            f"TLS failed ({reason}); if the port is one without TLS, write http:// instead of "
            "https://"
        )
    return (
        f"TLS failed ({reason}); for a private authority set SSL_CERT_FILE, for S3 alone "
        "AWS_CA_BUNDLE"
    )


def _reason(error: Exception) -> str:
    return _last_part(str(error))


def _last_part(answer: str) -> str:
    """The last part of what an exception says: before it stand objects and addresses."""
    return answer.rpartition(": ")[2][:200]
