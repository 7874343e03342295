"""Files into objects, by minio's client: in parts, with checksums."""

from __future__ import annotations

from pathlib import Path

from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import PoolManager

from db.errors import VideoError
from workers.sources.failures import from_network, from_s3, from_status
from workers.sources.s3_account import Account
from workers.sources.s3_client import USUAL_REGION, S3Refusal


def upload(path: Path, uri: str, account: Account, pool: PoolManager) -> None:
    """A file into an `s3:` object. Raises `VideoError`: access_denied, bad_credentials, no_bucket,
    unreachable, ...
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = Minio(
        account.host,
        secure=account.secure,
        region=account.region,
        credentials=account.credentials,
        http_client=pool,
    )
    try:
        client.fput_object(bucket, key, str(path))
    except Exception as error:
        raise _meaning(error, uri, account) from error


def _meaning(error: Exception, uri: str, account: Account) -> VideoError:
    """The code of what minio raised; exceptions of urllib3 pass through it, too."""
    if isinstance(error, S3Error):
        headers = error.response.headers
        refusal = S3Refusal(
            status=error.response.status,
            code=error.code or "",
            message=error.message or "",
            used_region=account.region or USUAL_REGION,
            region=headers.get("x-amz-bucket-region"),
            signed=account.credentials.retrieve() is not None,
            retry_after=headers.get("Retry-After"),
        )
        return from_s3(refusal, uri, "s3:PutObject", account.asked)
    if isinstance(error, InvalidResponseError):  # a proxy's page, or a server's that is none of S3
        return from_status(error._code, uri, "with an answer that is not S3's")
    if isinstance(error, ServerError):
        return from_status(error.status_code, uri)
    return from_network(error, uri)
