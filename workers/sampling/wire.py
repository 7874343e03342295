"""How a worker and a sampler process talk: messages over a socket, and memory that both have for
what is large.

    worker                                        sampler
    {"kind": "sample", "size_bytes", "policy", "stills"} -->
                                               <-- {"kind": "read", "block": 7, "slot": 1}     as
                                               often as it needs
    {"kind": "block"}, which lies in the slot  -->                                             or
    {"kind": "abort"}
                                               <-- {"kind": "done", ...} or "failed" or "aborted"

A message is its length and then JSON, because a sampler has decoded hostile bytes and the worker
must never run what it sends. The memory holds a few slots for blocks of the source, and the frames
behind them.
"""

from __future__ import annotations

import json
import struct
from typing import Any

#: A source is served in blocks of this size; the last one is shorter.
BLOCK_BYTES = 1 << 20
#: Blocks a sampler has at a time: interleaved sound and picture may lie in two places.
SLOTS = 2
#: Where the frames begin in the memory.
FRAMES_START = SLOTS * BLOCK_BYTES

#: A sampler's longest message: 96 positions and times are about 4 KB.
MAX_JSON_BYTES = 64 << 10
LENGTH = struct.Struct(">I")


def pack(message: dict[str, Any]) -> bytes:
    """One message, ready to send."""
    text = json.dumps(message).encode()
    return LENGTH.pack(len(text)) + text
