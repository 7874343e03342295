"""The way through a bucket's listing, page by page: on with every page, or an error. Pure.

AWS gives a token for the next page. Some services give none, or the same again; then the last key
is where the next page begins. A page that does not lead on ends the listing with an error: it would
go on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.sources.s3_answers import BadListingError, Page
from workers.sources.source import Listed

PAGE_KEYS = 1000
#: Pages in a row that may hold nothing, as after many deleted objects.
MOST_EMPTY_PAGES = 200
#: How services say that they do not know a parameter.
_NO_VERSION_2 = frozenset(
    {"NotImplemented", "InvalidArgument", "MethodNotAllowed", "UnsupportedOperation"}
)


@dataclass
class Walk:
    """Where a listing stands. `query`: what the next page is asked for with."""

    prefix: str
    version_1: bool = False
    token: str | None = None
    after: str | None = None
    done: bool = False
    _tokens_lead_on: bool = True
    _seen: set[str] = field(default_factory=set)
    _empty: int = 0

    @property
    def query(self) -> dict[str, str]:
        # empty and usual values are sent because bucket policies are held against them
        query = {
            "delimiter": "",
            "encoding-type": "url",
            "max-keys": str(PAGE_KEYS),
            "prefix": self.prefix,
        }
        if self.version_1:
            return query | ({"marker": self.after} if self.after else {})
        query["list-type"] = "2"
        if self.token:
            return query | {"continuation-token": self.token}
        return query | ({"start-after": self.after} if self.after else {})

    def advance(self, page: Page) -> list[Listed]:
        """Take note of a page that was read; its objects, none if it was there before. `done`: no
        other follows.

        Raises `BadListingError` for more that cannot be asked for.
        """
        self.done = not page.truncated
        if self.done:
            return page.objects
        last = page.objects[-1].key if page.objects else None
        if last is not None and not self._is_new(f"key {last}"):
            if self.token is None:
                raise BadListingError(
                    "its pages repeat: the service ignores where the next one is to begin"
                )
            self.token, self._tokens_lead_on = None, False
            return []
        self._empty = 0 if page.objects else self._empty + 1
        self.version_1 = self.version_1 or page.is_version_1
        leads_on = page.token is not None and self._tokens_lead_on and not self.version_1
        self.token = page.token if leads_on and self._is_new(f"token {page.token}") else None
        self.after = last or (page.marker if self.version_1 else self.after)
        if (
            last is None
            and self.token is None
            and not (page.marker and self._is_new(f"marker {page.marker}"))
        ):
            raise BadListingError(
                "it says that more follows, but not where (IsTruncated without a new token)"
            )
        if self._empty > MOST_EMPTY_PAGES:
            raise BadListingError(
                f"it says that more follows, {self._empty} times without an object"
            )
        return page.objects

    def fell_back(self, status: int, code: str) -> bool:
        """Whether version 1 is to be tried after a refusal of the first page: old services know no
        other.
        """
        if (
            self.version_1
            or self.after
            or status not in (400, 405, 501)
            or code not in _NO_VERSION_2
        ):
            return False
        self.version_1 = True
        return True

    def _is_new(self, place: str) -> bool:
        if place in self._seen:
            return False
        self._seen.add(place)
        return True
