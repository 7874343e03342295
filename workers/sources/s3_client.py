"""Requests to an S3 service, signed, and sent again where the service says that a bucket is
elsewhere.

minio's own client reads no answer that is not exactly AWS's, asks each bucket for its region first
(which needs a right of its own) and never follows it to another; its signatures, addresses and
credentials are used here, and it uploads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from minio.helpers import BaseURL
from minio.signer import sign_v4_s3
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from db.errors import RefusedConfigurationError
from workers.sources.response import beginning
from workers.sources.s3_account import Account
from workers.sources.s3_answers import error_fields
from workers.sources.s3_refusal import S3Refusal

#: What AWS and most other services call the region of those who name none.
USUAL_REGION = "us-east-1"
MAX_HOPS = 3
#: No error of S3 is longer.
REFUSAL_BYTES = 1 << 16
_REGION = re.compile(r"[a-z0-9-]{2,40}")
_REGION_IN_HOST = re.compile(
    r"s3[.-](?:dualstack\.)?([a-z]{2,}(?:-[a-z]+)+-\d+)\.amazonaws\.com(?:\.cn)?$"
)
_EXPECTED = re.compile(r"expecting ['\"]?([a-z0-9-]+)")


class S3Client:
    """`wait_seconds`: how long the words of a refusal are waited for. Thread-safe."""

    def __init__(self, account: Account, pool: PoolManager, *, wait_seconds: float) -> None:
        self._account = account
        self._pool = pool
        self._wait_seconds = wait_seconds
        try:
            self._base = BaseURL(
                f"{'https' if account.secure else 'http'}://{account.host}", account.region
            )
        except ValueError as error:
            raise RefusedConfigurationError(
                f"{account.asked}: {error}; check it, and AWS_REGION"
            ) from error
        self._region = account.region or self._base.region or USUAL_REGION
        self._regions: dict[str, str] = {}

    def get(
        self,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> BaseHTTPResponse:
        """An unread answer with status 200 or 206. Raises `S3Refusal` and urllib3's exceptions."""
        return self.send("GET", bucket, key, query=query, headers=headers)

    def send(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> BaseHTTPResponse:
        """The same for a request of any kind; 204 is well, too. The digest of a `body` is signed:
        the service refuses one that arrives changed.
        """
        url: SplitResult | None = None
        for hop in range(MAX_HOPS):
            region = self._regions.get(bucket, self._region)
            url = url or self._url(region, bucket, key, query)
            response, signed = self._send(method, url, region, headers or {}, body)
            if response.status in (200, 204, 206):
                return response
            refusal = self._refusal(response, region, signed=signed)
            if refusal.region not in (None, region) and hop < MAX_HOPS - 1:
                self._regions[bucket] = str(refusal.region)
                url = None
            elif refusal.location and hop < MAX_HOPS - 1 and self._is_ours(refusal.location):
                url = urlsplit(urljoin(urlunsplit(url), refusal.location))
            else:
                raise refusal
        raise AssertionError("the last hop returns or raises")

    def _url(
        self, region: str, bucket: str, key: str, query: Mapping[str, str] | None
    ) -> SplitResult:
        try:
            return self._base.build(
                method="GET",
                region=region,
                bucket_name=bucket,
                object_name=key or None,
                query_params=dict(query or {}),
            )
        except ValueError as error:
            raise RefusedConfigurationError(f"{self._account.asked}: {error}") from error

    def _send(
        self,
        method: str,
        url: SplitResult,
        region: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> tuple[BaseHTTPResponse, bool]:
        """The answer, and whether it was asked for with a key.

        Only what a signature must cover is signed: proxies rewrite the rest.
        """
        known = self._account.credentials.retrieve()
        sent: dict[str, str | list[str] | tuple[str]] = {"Host": url.netloc}
        if known is not None:
            now = datetime.now(UTC)
            sha256 = hashlib.sha256(body).hexdigest()
            if url.scheme == "https" and not body:
                sha256 = "UNSIGNED-PAYLOAD"
            sent |= {"x-amz-content-sha256": sha256, "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}"}
            if known.session_token:
                sent["X-Amz-Security-Token"] = known.session_token
            sign_v4_s3(
                method=method,
                url=url,
                region=region,
                headers=sent,
                credentials=known,
                content_sha256=sha256,
                date=now,
            )
        response = self._pool.urlopen(
            method,
            urlunsplit(url),
            body=body or None,
            headers={**sent, **headers},
            redirect=False,
            retries=False,
            preload_content=False,
        )
        return response, known is not None

    def _refusal(self, response: BaseHTTPResponse, region: str, *, signed: bool) -> S3Refusal:
        try:
            body = beginning(response, REFUSAL_BYTES, self._wait_seconds)
        except HTTPError:  # its status says enough
            body = b""
        fields = error_fields(body)
        headers = response.headers
        location = headers.get("Location")
        return S3Refusal(
            status=response.status,
            code=fields.get("Code", ""),
            message=" ".join(fields.get("Message", "").split()),
            used_region=region,
            region=_region(headers.get("x-amz-bucket-region"), fields, location),
            signed=signed,
            location=location if response.status in (301, 302, 303, 307, 308) else None,
            retry_after=headers.get("Retry-After"),
            content_range=headers.get("Content-Range", ""),
            size_bytes=fields.get("ActualObjectSize", ""),
        )

    def _is_ours(self, location: str) -> bool:
        """Whether a redirect stays with the service: a request is signed for nobody else, nor sent
        on without TLS.
        """
        to = urlsplit(location)
        if not to.netloc:
            return True
        if (
            to.scheme not in ("http", "https")
            or (self._account.secure and to.scheme == "http")
            or "@" in to.netloc
        ):
            return False
        own, host = urlsplit(f"//{self._account.host}").hostname or "", to.hostname or ""
        if self._base.is_aws_host:
            return _REGION_IN_HOST.search(host) is not None
        return host == own or host.endswith(f".{own}")


def _region(header: str | None, fields: Mapping[str, str], location: str | None) -> str | None:
    """The bucket's region, wherever an answer says it."""
    hosts = [fields.get("Endpoint", ""), (urlsplit(location).hostname or "") if location else ""]
    found = [match[1] for host in hosts if (match := _REGION_IN_HOST.search(host))]
    expected = (
        _EXPECTED.search(fields.get("Message", ""))
        if fields.get("Code") == "AuthorizationHeaderMalformed"
        else None
    )
    for region in (header, fields.get("Region"), *found, expected and expected[1]):
        if region and _REGION.fullmatch(region.strip()):
            return region.strip()
    return None
