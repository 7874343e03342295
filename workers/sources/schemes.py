"""The schemes of sources, one line each: how their uris are written, and the module that opens
them. Pure.

A canonical uri is `scheme://authority/rest`. Its *place*, what is paused when it fails, is all
before the rest, whatever the scheme (`reelvec.place_of` in SQL). A new kind of source is a line of
this table and a module with `make_store`; everybody else asks the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote, urlsplit


class Naming(Enum):
    """What the rest of a uri is."""

    PATH = auto()  # an absolute path of this machine, percent-encoded
    KEY = auto()  # the key of an object in a bucket, literally; buckets can be listed
    ADDRESS = auto()  # path and query of an address, percent-encoded


@dataclass(frozen=True)
class Scheme:
    """`module`: of `workers.sources`; its `make_store(settings, limits, roots)` returns a
    `workers.sources.source.Store`.
    """

    naming: Naming
    module: str


SCHEMES = {
    "file": Scheme(Naming.PATH, "file"),
    "s3": Scheme(Naming.KEY, "s3"),
    "http": Scheme(Naming.ADDRESS, "http"),
    "https": Scheme(Naming.ADDRESS, "http"),
}


def naming_of(uri: str) -> Naming:
    """How a canonical uri is written."""
    return SCHEMES[uri.partition(":")[0]].naming


def bucket_and_key(uri: str) -> tuple[str, str]:
    """The two parts of the uri of an object, or of a folder of a bucket."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def key_of(uri: str) -> str:
    """What a canonical uri names, decoded: the path of a file or web address, the key of an
    object.
    """
    if naming_of(uri) is Naming.KEY:
        return bucket_and_key(uri)[1]
    return unquote(urlsplit(uri).path)


def shown(address: str) -> str:
    """An address for a message: without a password, and without a query, which may be a
    signature.
    """
    scheme = SCHEMES.get(address.partition(":")[0])
    if scheme is not None and scheme.naming is Naming.KEY:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
