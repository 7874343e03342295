"""How a worker and a sampler process talk: two lengths, a JSON object, then bytes if there are any.

    worker                                        sampler
    {"kind": "sample", "size_bytes", "policy"} -->
                                               <-- {"kind": "read", "block": 7}       as often as it needs
    {"kind": "block"} + up to 1 MiB            -->                                    or {"kind": "abort"}
                                               <-- {"kind": "done", ...} or "failed" or "aborted"

JSON, because a sampler has decoded hostile bytes and the worker must never run what it sends. The frames themselves lie in
memory both map.
"""

from __future__ import annotations

import json
import struct
from typing import Any

#: A source is served in blocks of this size; the last one is shorter.
BLOCK_BYTES = 1 << 20
#: A sampler's longest message: 96 positions and times are about 4 KB.
MAX_JSON_BYTES = 64 << 10
#: bytes of JSON, bytes that follow it
LENGTHS = struct.Struct(">II")


def pack(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """One message, ready to send."""
    text = json.dumps(message).encode()
    return LENGTHS.pack(len(text), len(payload)) + text + payload
