"""Finding out whether what has to be decoded of a file is encrypted.

FFmpeg hands encrypted pictures to its decoders like any other, and what comes out is noise. So the
file's own words are read beside FFmpeg: in its index before anything is decoded, in fragments and
packets as they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from workers.sampling.inside.boxes import ByteFile


class Encryption:
    """What one file says about it. This one says nothing: no picture is encrypted.

    `file` is what FFmpeg is to read.
    """

    def __init__(self, file: ByteFile) -> None:
        self.file = file

    def begin(self, stream: VideoStream, /) -> None:
        """Packets of this stream will come, from its first one."""

    def covers(self, _packet: Packet[Stream], /) -> bool:
        """Whether the next packet is encrypted. Called once for each, in file order."""
        return False

    def unwrapped(self, packet: Packet[Stream], /) -> Packet[Stream]:
        """What a decoder is to have of a packet that is not encrypted."""
        return packet

    def explains_failure(self) -> bool:
        """Whether the pictures that would come next are encrypted, of the first stream if none has
        begun.
        """
        return False


#: Position and bytes.
See = Callable[[int, bytes], None]


class WatchedFile:
    """A file that is looked at while FFmpeg reads it, so that nothing is read for that alone."""

    def __init__(self, file: ByteFile, see: See, see_apart: See | None = None) -> None:
        """`see` gets what each read adds to the part that is known from the start of the file on,
        and its position.

        `see_apart` gets what FFmpeg reads beyond that part: the end, for the last time in it.
        """
        self._file = file
        self._see = see
        self._see_apart = see_apart
        self._known_bytes = 0

    def read(self, count: int) -> bytes:
        position = self._file.tell()
        data = self._file.read(count)
        new = position + len(data) - self._known_bytes
        if 0 < new <= len(data):
            self._known_bytes += new
            self._see(self._known_bytes - new, data[len(data) - new :])
        elif new > len(data) and data and self._see_apart:
            self._see_apart(position, data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
