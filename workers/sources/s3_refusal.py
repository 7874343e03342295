"""A refusal of an S3 service, and the code it becomes for one video."""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import VideoError
from workers.sources.failures import failure, from_status
from workers.sources.schemes import bucket_and_key, shown

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
    "ExpiredToken": "get new temporary keys, and use a role instead of keys where work takes "
    "longer than they live",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
}


@dataclass(eq=False)
class S3Refusal(Exception):  # noqa: N818 - an answer, which may be what was expected
    """An answer with another status than 200 and 206. `code` and `message`: the service's own,
    empty if it said none.

    `used_region` and `region`: that of the request, and the bucket's if the answer says it.
    `signed`: with a key. `location`: where a redirect leads. `size_bytes`: of the object, where the
    error gives it.
    """

    status: int
    code: str
    message: str
    used_region: str
    region: str | None
    signed: bool
    retry_after: str | None = None
    location: str | None = None
    content_range: str = ""
    size_bytes: str = ""


def from_s3(refusal: S3Refusal, uri: str, action: str, asked: str) -> VideoError:
    """What an error answer of S3 means for one who wanted to do `action` (`s3:GetObject`). `asked`:
    which service it is.
    """
    code, bucket = refusal.code, bucket_and_key(uri)[0]
    answer = f"{code}: {refusal.message[:200]}" if refusal.message else code
    if code == "NoSuchBucket":
        return failure(
            "no_bucket", uri, f"there is no bucket {bucket!r} on this S3 service; {asked}"
        )
    if elsewhere := _elsewhere(refusal):
        return failure("no_bucket", uri, f"{elsewhere}; {asked}")
    if code in _BAD_CREDENTIALS:
        advice = _ADVICE.get(
            code, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"
        )
        return failure("bad_credentials", uri, f"{answer}; {advice}; {asked}")
    if code == "InvalidObjectState":
        return failure(
            "request_refused", uri, "the object is archived; restore it, then run reelvec retry"
        )
    if refusal.status in (401, 403):
        who = (
            f"the key lacks {action}"
            if refusal.signed
            else f"no keys were found, and {action} is not allowed without"
        )
        if action == "s3:GetObject":
            who += (
                ", or there is no such object (without the right s3:ListBucket, S3 does not say "
                "which)"
            )
        return failure(
            "access_denied",
            uri,
            f"HTTP {refusal.status} {answer}: it may not be read: {who}; {asked}",
        )
    return from_status(refusal.status, uri, code, retry_after=refusal.retry_after)


def _elsewhere(refusal: S3Refusal) -> str | None:
    """Where the service says that the bucket is, if that could not be followed."""
    if refusal.region and refusal.region != refusal.used_region:
        return (
            f"the bucket is in the region {refusal.region!r}, but {refusal.used_region!r} was "
            f"asked; set AWS_REGION={refusal.region}, and no endpoint of another region"
        )
    return (
        f"HTTP {refusal.status}: the service redirects this to {shown(refusal.location)}"
        if refusal.location
        else None
    )
