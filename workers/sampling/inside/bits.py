"""Bits of a byte string, most significant first."""

from __future__ import annotations


class BitReader:
    """Reading past the end raises `EOFError`."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._number >> self._left & (1 << count) - 1
