"""A file that is looked at while FFmpeg reads it: each byte once, in order, so that nothing is read for that alone."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from workers.sampling.boxes import ByteFile


class WatchedFile(ABC):
    """Hands every read on, and to `see` what it adds to the part that is known from the start of the file on.

    What FFmpeg reads elsewhere, the end for the last time in it, is not looked at.
    """

    def __init__(self, file: ByteFile) -> None:
        self._file = file
        self._known_bytes = 0

    @abstractmethod
    def see(self, position: int, data: bytes) -> None:
        """`data` lies at `position`, right behind what was seen before."""

    def read(self, count: int) -> bytes:
        position = self._file.tell()
        data = self._file.read(count)
        new = position + len(data) - self._known_bytes
        if 0 < new <= len(data):
            self._known_bytes += new
            self.see(position + len(data) - new, data[len(data) - new :])
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
