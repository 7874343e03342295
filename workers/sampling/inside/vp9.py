"""What the first byte of a VP9 packet says. Source: VP9 Bitstream & Decoding Process Specification,
6.2 (uncompressed header).
"""

from __future__ import annotations

from av.packet import Packet
from av.stream import Stream

from workers.sampling.inside.bits import BitReader


def is_shown_key_frame(packet: Packet[Stream]) -> bool:
    """Whether its first frame is a key frame that is shown."""
    bits = BitReader(memoryview(packet)[:2])
    marker, low, high = bits.take(2), bits.take(1), bits.take(1)
    if low and high:
        bits.take(1)  # profile 3 has a bit reserved
    shows_existing, is_inter, is_shown = bits.take(1), bits.take(1), bits.take(1)
    return marker == 2 and not shows_existing and not is_inter and bool(is_shown)
