"""Holes in files whose packets lie within each other or do not tell where they lie: mpegts, MPEG
program streams, asf, ogg.

FFmpeg passes over them without a word, so the container's own words are read beside it, in what it
reads anyway.
"""

from __future__ import annotations

from functools import partial

from workers.sampling.inside.boxes import ByteFile, read_at
from workers.sampling.inside.encryption import asf, mpegps, mpegts
from workers.sampling.inside.holes.asf_data import MARK, asf_data
from workers.sampling.inside.holes.base import Holes
from workers.sampling.inside.holes.packs import Packs
from workers.sampling.inside.holes.pages import CAPTURE, Pages
from workers.sampling.inside.holes.steps import Steps

_HEAD_BYTES = 2048


def holes_of(file: ByteFile) -> Holes:
    """The watch over this file, by its first bytes."""
    head = read_at(file, 0, _HEAD_BYTES)
    if head.startswith(asf.HEADER):
        data = asf_data(file)
        if not data:
            return Holes(file)
        packets = partial(Steps, mark=MARK, step=data.packet_bytes, run=2)
        return Holes(file, "asf", packets, data.start, data.stop)
    if head.startswith(CAPTURE):
        return Holes(file, "ogg", Pages)
    if layout := mpegts.layout(head):
        first, step = layout
        packets = partial(Steps, mark=bytes([mpegts.SYNC]), step=step, run=5)
        return Holes(file, "mpegts", packets, first)
    # a recording may begin within a pack
    start = head.find(mpegps.PACK)
    return Holes(file, "mpeg", Packs, start) if start >= 0 else Holes(file)


__all__ = ["Holes", "holes_of"]
