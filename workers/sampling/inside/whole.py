"""Whether a file was cut short, by the one size that its outermost part states."""

from __future__ import annotations

import os

from workers.sampling.inside import ebml
from workers.sampling.inside.boxes import ByteFile, read_at

_HEAD_BYTES = 4096


def is_whole(file: ByteFile) -> bool:
    """Whether all of a mkv, webm or avi is there. False where that is not stated, too.

    Then what its header says of length or frames is wrong, if it does not have them.
    """
    end = file.seek(0, os.SEEK_END)
    data = read_at(file, 0, _HEAD_BYTES)
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") <= end
    if data.startswith(ebml.EBML):
        header = ebml.head(data)
        start = header.bytes + header.size if header and header.size is not None else len(data)
        segment = ebml.head(data[start : start + ebml.HEAD_BYTES])
        return bool(
            segment and segment.size is not None and start + segment.bytes + segment.size <= end
        )
    return False
