"""Reading while the last piece is still worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items, each made by a thread while the one before it is in use. The thread has ended
    when the block ends, whatever ended it.
    """
    with ThreadPoolExecutor(1) as maker:
        yield _from(maker, items)


def _from(maker: ThreadPoolExecutor, items: Iterator[T]) -> Iterator[T]:
    following = maker.submit(next, items, None)
    while (item := following.result()) is not None:
        following = maker.submit(next, items, None)
        yield item
