"""One spelling per source: every path and address becomes the canonical uri under which a video is
stored. Pure.

- `file:///abs/percent-encoded`: bytes as the file system has them; Unicode forms are never changed.
- `s3://bucket/key`: the key is everything after the bucket's slash, literally, not percent-encoded.
- `http(s)://host/path?query`: without fragment and without signatures.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from producer.sources import mistaken
from workers.sources.schemes import SCHEMES, Naming

_NAMES = [f"{name}:" for name in SCHEMES]
ALLOWED = f"a path, {', '.join(_NAMES[:-1])} or {_NAMES[-1]}"

_SCHEME = re.compile(rf"(?:{'|'.join(SCHEMES)}):|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_KEY_BYTES = 1024
#: AWS's own hosts, which have the region and sometimes the bucket in their name: the service (also
#: FIPS, dual stack and of old), and a bucket behind an accelerated or a VPC endpoint. Hosts of
#: access points, websites and the like name no bucket: they stay web addresses.
_REGION = r"(?:[a-z]{2}|eusc)(?:-[a-z]+){1,2}-\d+"
_AWS = re.compile(
    rf"(?:(?P<bucket>[a-z0-9][a-z0-9.-]+)\.)?s3(?:-fips)?(?:\.dualstack)?(?:[.-](?:{_REGION}|external-1))?\.amazonaws\.com(?:\.cn)?"
    r"|(?P<accelerated>[a-z0-9][a-z0-9-]+)\.s3-accelerate(?:\.dualstack)?\.amazonaws\.com"
    rf"|(?:(?P<private>[a-z0-9][a-z0-9.-]+)\.)?bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce\.amazonaws\.com(?:\.cn)?"
)
#: An endpoint of AWS's. Buckets in China are another service's.
_AWS_ENDPOINT = re.compile(r"\.amazonaws(\.com|\.com\.cn)$")
#: A version of an object, as some programs write it behind the key. Nobody calls an object so.
_VERSION = re.compile(r"\?versionId=[^/&]*$", re.IGNORECASE)
_SECRET_PREFIXES = ("x-amz-", "x-goog-")
_SECRET_NAMES = frozenset({"signature", "awsaccesskeyid", "expires", "token", "sig"})
#: What stays as written in the path and query of a web address; the rest is percent-encoded.
_WEB_SAFE = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True)
class Canonical:
    """A canonical uri and what the user should know about the way to it."""

    uri: str
    warning: str | None = None


def canonical(text: str, *, base: Path | None, s3_endpoint: str | None) -> Canonical:
    """The canonical uri of a path or address.

    `base`: absolute folder that relative paths start from; None refuses them. `s3_endpoint`: host
    whose web addresses are S3 objects; an endpoint of AWS's means AWS's hosts in every region.
    Raises `ValueError`: empty, control characters, not UTF-8, unsupported scheme, no bucket or key,
    user name or password in the address. No message repeats a secret.
    """
    _check_characters(text)
    text = mistaken.respelled(text)
    if _SCHEME.match(text) is None:
        mistaken.refuse_path(text)
        return Canonical(file_uri(_absolute(text, base)))
    scheme, _, rest = text.partition(":")
    scheme = scheme.lower()
    naming = SCHEMES[scheme].naming if scheme in SCHEMES else None
    if naming is Naming.PATH:
        return Canonical(file_uri(_path_of_file_url(rest)))
    if not rest.startswith("//"):
        raise ValueError(f"{scheme}: must be followed by //")
    if naming is Naming.KEY:
        bucket, _, key = rest[2:].partition("/")
        _refuse_version(key)
        return Canonical(object_uri(scheme, bucket, key))
    if naming is Naming.ADDRESS:
        return _web(scheme, rest, s3_endpoint)
    raise ValueError(
        f"scheme {scheme}: is not supported; allowed are {ALLOWED}{mistaken.advice(scheme)}"
    )


def file_uri(path: Path) -> str:
    """The uri of an absolute path, taken literally. Raises `ValueError`: control characters, not
    UTF-8.
    """
    text = str(path)
    _check_characters(text)
    return "file://" + quote(text)


def folder_uri(text: str, *, s3_endpoint: str | None) -> str | None:
    """The uri, ending in a slash, of the bucket or folder of one that a source names; None: it
    names none.

    `s3://bucket`, `s3://bucket/prefix`, `s3://bucket/prefix/`, and web addresses on the S3
    endpoint. Raises `ValueError`: no bucket name.
    """
    scheme, separator, rest = mistaken.respelled(text).partition("://")
    if not separator:
        return None
    scheme = scheme.lower()
    naming = SCHEMES[scheme].naming if scheme in SCHEMES else None
    if naming is Naming.KEY:
        bucket, _, prefix = rest.partition("/")
        _refuse_version(prefix)
    elif naming is Naming.ADDRESS and "@" not in rest:
        named = _bucket_and_key(urlsplit(text), s3_endpoint)
        if named is None:
            return None
        scheme, (bucket, prefix) = "s3", named
    else:
        return None
    if _BUCKET.fullmatch(bucket) is None:
        raise ValueError(f"{bucket!r} is not a bucket name; write {scheme}://bucket/prefix")
    uri = f"{scheme}://{bucket}/{prefix}"
    return uri if uri.endswith("/") else f"{uri}/"


def _refuse_version(key: str) -> None:
    if found := _VERSION.search(key):
        raise ValueError(
            f"{found[0]} asks for one version of an object, which is not supported; without it the "
            "newest one is read"
        )


def _check_characters(text: str) -> None:
    if not text:
        raise ValueError(f"an empty address; allowed are {ALLOWED}")
    if bad := _UNPRINTABLE.search(text):
        raise ValueError(
            f"control character {bad[0]!r} at position {bad.start()}; rename the source without it"
        )
    if not _is_utf8(text):
        raise ValueError("not UTF-8; rename the source or save the list as UTF-8")


def _is_utf8(text: str) -> bool:
    """False for text that came from other bytes (Python keeps those as lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _absolute(text: str, base: Path | None) -> Path:
    if base is None and not text.startswith(("/", "~")):
        raise ValueError(
            f"{text!r} is a relative path; write whole paths and addresses in a list that lies "
            "elsewhere"
        )
    if text == "~" or text.startswith("~/"):
        try:
            text = str(Path(text).expanduser())
        except RuntimeError as error:
            raise ValueError(
                f"{text!r}: this user has no home folder; write the whole path"
            ) from error
    # without looking at the disk: the path may exist on the workers only. // at the start means /
    # on Linux
    return Path("/" + os.path.normpath((base or Path("/")) / text).lstrip("/"))


def _path_of_file_url(rest: str) -> Path:
    """`?` and `#` belong to the path: a file has no query, and whoever writes them forgot to encode
    them.
    """
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
    if host.lower() not in ("", "localhost"):
        raise ValueError(
            f"file: address on host {host!r}; write file:///path for a file of this machine"
        )
    if not path.startswith("/"):
        raise ValueError(f"file: needs an absolute path, not {path!r}")
    mistaken.refuse_drive(path[1:])
    return _absolute(_decoded(path), Path("/"))


def _decoded(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path!r} is not percent-encoded UTF-8") from error


def object_uri(scheme: str, bucket: str, key: str) -> str:
    """The uri of an object of a bucket. Raises `ValueError`: no bucket name, no key, characters or
    parts that cannot be asked for.
    """
    if _BUCKET.fullmatch(bucket) is None:
        raise ValueError(f"{bucket!r} is not a bucket name; write {scheme}://bucket/key")
    uri = f"{scheme}://{bucket}/{key}"
    if not key or key.endswith("/"):
        raise ValueError(f"{uri} names no object; write {scheme}://bucket/key")
    _check_characters(key)
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(
            f"{uri} has . or .. as a part, which S3 clients cannot ask for; rename the object"
        )
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ValueError(f"the key has {len(key.encode())} bytes; S3 allows {_MAX_KEY_BYTES}")
    return uri


def _web(scheme: str, rest: str, s3_endpoint: str | None) -> Canonical:
    if (
        "@" in re.split(r"[/?#]", rest[2:], maxsplit=1)[0]
    ):  # before urlsplit, whose errors quote the password
        raise ValueError(
            "a user name or password in an address is refused; use s3://bucket/key and keys"
        )
    parts = urlsplit(f"{scheme}:{rest}")
    if not parts.hostname:
        raise ValueError(f"{scheme}:// without a host")
    mistaken.refuse_page(f"{scheme}:{rest}")
    if named := _bucket_and_key(parts, s3_endpoint):
        why = "objects are read with keys from the environment, in their newest version"
        return Canonical(
            object_uri("s3", *named), _lost(parts.query.split("&") if parts.query else [], why)
        )
    _check_characters(unquote(parts.path) or "/")  # its last part becomes the video's title
    kept, secret = _split_query(parts.query)
    query = "?" + quote("&".join(kept), safe=_WEB_SAFE) if kept else ""
    path = quote(parts.path or "/", safe=_WEB_SAFE)
    why = (
        "signatures are not stored; if the address does not open without them, use s3://bucket/key "
        "and keys"
    )
    return Canonical(f"{scheme}://{_host(parts)}{path}{query}", _lost(secret, why))


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def _bucket_and_key(parts: SplitResult, s3_endpoint: str | None) -> tuple[str, str] | None:
    """Bucket and key of an address on the S3 endpoint, in path style or with the bucket as a
    virtual host.
    """
    if not s3_endpoint:
        return None
    endpoint = urlsplit(s3_endpoint if "://" in s3_endpoint else f"//{s3_endpoint}")
    host, own = parts.hostname or "", endpoint.hostname or ""
    service = _AWS_ENDPOINT.search(own)
    if (
        service
        and host.endswith(service[0])
        and (aws := _AWS.fullmatch(host))
        and _other_port(parts) is None
    ):
        path = _decoded(parts.path[1:])
        named = aws["bucket"] or aws["accelerated"] or aws["private"]
        bucket, _, key = (named, "", path) if named else path.partition("/")
        return bucket, key
    if not own or _other_port(parts) != _other_port(endpoint):
        return None
    if host == own:
        bucket, _, key = parts.path[1:].partition("/")
        return _decoded(bucket), _decoded(key)
    if host.endswith("." + own):
        return host.removesuffix("." + own), _decoded(parts.path[1:])
    return None


def _other_port(parts: SplitResult) -> int | None:
    """The port if it is no default: http and https of one endpoint name the same objects."""
    return None if parts.port in (80, 443) else parts.port


def _split_query(query: str) -> tuple[list[str], list[str]]:
    """The parameters to keep, byte for byte, and those that carry a signature."""
    kept: list[str] = []
    secret: list[str] = []
    for part in query.split("&") if query else []:
        name = unquote(part.partition("=")[0]).lower()
        is_secret = name in _SECRET_NAMES or name.startswith(_SECRET_PREFIXES)
        (secret if is_secret else kept).append(part)
    return kept, secret


def _lost(parameters: list[str], why: str) -> str | None:
    """The warning about dropped query parameters: their names only, their values may be secret."""
    if not parameters:
        return None
    return (
        f"dropped from the address: {', '.join(part.partition('=')[0] for part in parameters)} "
        f"({why})"
    )
