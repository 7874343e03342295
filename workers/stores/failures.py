"""Errors of the network and of S3 become codes. Messages never hold a query string: it may be a signature."""

from __future__ import annotations

from urllib.parse import urlsplit

from urllib3 import exceptions as http

from db.errors import VideoError
from workers.stores.source import STAGE

#: S3's own words for keys it does not accept.
_BAD_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthorizationHeaderMalformed",
        "RequestTimeTooSkewed",
        "InvalidSecurity",
    }
)
_ADVICE = {
    "ExpiredToken": "get new temporary keys, and use a role instead of keys where work takes longer than they live",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
}
#: An answer to try again after a while.
_BUSY = frozenset({408, 425, 429})


class BusyError(VideoError):
    """server_error, and how long the server asked to be left alone (0: it did not say)."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__("server_error", message, stage=STAGE)
        # it may also be a date, which hardly anybody sends
        self.pause_seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def shown(uri: str) -> str:
    """An address for a message."""
    if uri.startswith("s3://"):
        return uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def failure(code: str, uri: str, why: str) -> VideoError:
    return VideoError(code, f"{shown(uri)}: {why}", stage=STAGE)


def from_status(status: int, uri: str, word: str = "", *, retry_after: str | None = None) -> VideoError:
    """What an HTTP status other than 200 and 206 means for the one object it was asked for.

    `retry_after`: the header of that name.
    """
    said = f"HTTP {status}{f' {word}' if word else ''}"
    if status in (401, 403):
        return failure("access_denied", uri, f"{said}: it may not be read; with a key that may, try again")
    if status in (404, 410):
        return failure("not_found", uri, f"{said}: there is no such object")
    if status in _BUSY or status >= 500:
        return BusyError(f"{shown(uri)}: {said}: the server could not answer", retry_after)
    return failure("request_refused", uri, f"{said}: the server does not serve this")


def from_s3(code: str, status: int, uri: str, message: str, *, retry_after: str | None = None) -> VideoError:
    """What an error answer of S3 means. `code`, `message` and `retry_after` are the service's own."""
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if code == "NoSuchBucket":
        return failure("no_bucket", uri, f"there is no bucket {bucket!r} on this S3 service; check AWS_ENDPOINT_URL_S3")
    if code in _BAD_CREDENTIALS:
        advice = _ADVICE.get(code, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile")
        return failure("bad_credentials", uri, f"{code}: {message.strip()[:200]}; {advice}")
    if code == "InvalidObjectState":
        return failure("request_refused", uri, "the object is archived; restore it, then run reelvec retry")
    return from_status(status, uri, code, retry_after=retry_after)


def from_network(error: Exception, uri: str) -> VideoError:
    """What an exception of urllib3 means. Raises the exception again if it is no failure of the network."""
    if isinstance(error, http.MaxRetryError) and error.reason is not None:
        return from_network(error.reason, uri)
    code, why = "fetch_cut", f"the connection ended early ({type(error).__name__})"
    if isinstance(error, http.NameResolutionError):
        code, why = "unreachable", f"there is no host {error.conn.host!r}, or no DNS on this machine"
    elif isinstance(error, http.NewConnectionError):
        code, why = "unreachable", f"nobody answers at {error.conn.host}:{error.conn.port} ({_reason(error)})"
    elif isinstance(error, http.ConnectTimeoutError):
        code, why = "unreachable", f"nobody answers ({_reason(error)})"
    elif isinstance(error, http.SSLError):
        advice = "for a private authority set SSL_CERT_FILE, for S3 alone AWS_CA_BUNDLE"
        code, why = "unreachable", f"TLS failed ({_reason(error)}); {advice}"
    elif isinstance(error, http.TimeoutError):
        code, why = "fetch_timeout", "the connection stalled"
    elif not isinstance(error, http.HTTPError | OSError):
        raise error
    return failure(code, uri, why)


def _reason(error: Exception) -> str:
    """The last part of what an exception says: before it stand objects and addresses."""
    return str(error).rpartition(": ")[2][:200]
