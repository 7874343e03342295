"""What S3 services answer in XML: errors, and pages of a bucket's listing. Pure.

Services differ from AWS in dates, in namespaces and in what they leave out. Only an object's key is
needed; size and etag are taken where they are what they should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from workers.sources.response import size_in
from workers.sources.source import Listed


class BadListingError(Exception):
    """An answer that is no listing, or one that leads nowhere. Its text says which."""


@dataclass(frozen=True)
class Page:
    """`truncated`: more follows. `token`: of version 2, and `marker` of version 1: where, as the
    service says it.
    """

    objects: list[Listed]
    truncated: bool
    token: str | None
    marker: str | None
    is_version_1: bool


def parsed(body: bytes) -> Page:
    """Raises `BadListingError`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat refuses bombs, and the operator named the service
    except ElementTree.ParseError as error:
        raise BadListingError(f"it is no XML ({error}) but begins {body[:60]!r}") from error
    if refused := error_fields(body):
        raise BadListingError(f"it is an error, {refused.get('Code')}: {refused.get('Message')}")
    if local_name(root) != "ListBucketResult":
        raise BadListingError(f"it is no listing but <{local_name(root)[:60]}>")
    texts = {
        local_name(element): (element.text or "").strip() for element in root if not len(element)
    }
    encoded = texts.get("EncodingType", "").lower() == "url"

    def plain(text: str) -> str:
        return unquote_plus(text) if encoded else text

    return Page(
        objects=[
            _listed(element, encoded=encoded)
            for element in root
            if local_name(element) == "Contents"
        ],
        truncated=texts.get(
            "IsTruncated", "true" if "NextContinuationToken" in texts else ""
        ).lower()
        in ("true", "1"),
        token=texts.get("NextContinuationToken") or None,
        marker=plain(texts.get("NextMarker", "")) or None,
        is_version_1="KeyCount" not in texts
        and "NextContinuationToken" not in texts
        and "Marker" in texts,
    )


def _listed(element: ElementTree.Element, *, encoded: bool) -> Listed:
    texts = {local_name(part): part.text or "" for part in element}
    key = texts.get("Key", "")
    if not key:
        raise BadListingError("one of its entries has no key")
    etag = texts.get("ETag", "").strip().strip('"')
    return Listed(
        unquote_plus(key) if encoded else key,
        size_in(texts.get("Size", "").strip()),
        etag or None,
        _moment(texts.get("LastModified", "").strip()),
    )


def _moment(text: str) -> datetime | None:
    """A time with its zone; None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def error_fields(body: bytes) -> dict[str, str]:
    """What an error in XML says, by the names of its elements; nothing for what is none."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat refuses bombs, and the operator named the service
    except ElementTree.ParseError:
        return {}
    if local_name(root) != "Error":
        return {}
    return {local_name(element): (element.text or "").strip() for element in root}


def local_name(element: ElementTree.Element) -> str:
    """The name of an element, whatever namespace the service writes."""
    return element.tag.rpartition("}")[2]
