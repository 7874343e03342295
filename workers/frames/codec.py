"""Pixels without loss in a quarter of their bytes: differences to their neighbours, then Huffman
codes.

Red and blue are taken relative to green and every pixel relative to the one above it (uint8
arithmetic wraps, and wraps back); where that is worth it, also relative to the one left of it, and
to that of the frame before. All of these are sums when undone, each of long runs of bytes as they
lie in memory, which numpy adds 64 at a time. zstd's search for repetitions is all but switched off:
in noise it finds what costs more than it saves. Measured against other codecs in bench/RESULTS.md
(`python -m bench.frames codecs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import zstandard

from workers.sampling.plan import FRAMES, SHAPE, SIDE_PX

Pixels = npt.NDArray[np.uint8]

_CHANNELS = 3
_FRAME_BYTES = SIDE_PX * SIDE_PX * _CHANNELS
#: Pixels relative to those left of them come in groups of so many, whose first is not: a sum over a
#: group takes three steps.
_GROUP_PX = 8
#: Undoing `across` takes as long as all else but zstd, so it must save a tenth of the bytes.
_ACROSS_MUST_SAVE = 0.1
#: Every so many frames one is looked at to see which differences are small.
_LOOKED_AT = 12
#: zstd reserves 128 KiB for what a pack refers back to, and refuses to reserve more.
_WINDOW_LOG = 17
_ENCODING = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    window_log=_WINDOW_LOG,
    hash_log=6,
    min_match=7,
    write_content_size=False,
)


class BadPayloadError(Exception):
    """The bytes are no compressed pixels. Its text says why."""


@dataclass(frozen=True)
class Relative:
    """What pixels are relative to, beside the one above: `over_time` that of the frame before,
    `across` the one left of them.
    """

    over_time: bool
    across: bool


def compress(pixels: Pixels) -> tuple[bytes, Relative]:
    """uint8 `[96, 224, 224, 3]` as bytes; and how they are to be read."""
    differences = pixels.copy()
    for channel in (0, 2):
        differences[..., channel] -= pixels[..., 1]
    differences[:, 1:] -= differences[:, :-1].copy()
    relative = _smallest(differences)
    if relative.over_time:
        differences[1:] -= differences[:-1].copy()
    if relative.across:
        _across(differences)
    return _compressed(differences), relative


def _smallest(differences: Pixels) -> Relative:
    """What makes some of the frames smallest."""
    before, still = differences[::_LOOKED_AT], differences[1::_LOOKED_AT]

    def cost(relative: Relative) -> float:
        tried = still - before if relative.over_time else still.copy()
        if not relative.across:
            return (1 - _ACROSS_MUST_SAVE) * len(_compressed(tried))
        _across(tried)
        return len(_compressed(tried))

    return min((Relative(*each) for each in product((False, True), repeat=2)), key=cost)


def _across(differences: Pixels) -> None:
    groups = differences.reshape(-1, _GROUP_PX, _CHANNELS)
    groups[:, 1:] -= groups[:, :-1].copy()


def _compressed(differences: Pixels) -> bytes:
    compressor = zstandard.ZstdCompressor(compression_params=_ENCODING)
    return compressor.compress(np.ascontiguousarray(differences).data)


def decompress(payload: bytes | memoryview, pixels: Pixels, relative: Relative) -> None:
    """Fill `pixels`, uint8 `[96, 224, 224, 3]`. No more is unpacked of `payload` than they take.

    Raises `BadPayloadError`.
    """
    assert pixels.shape == SHAPE
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG)
    frames = pixels.reshape(FRAMES, _FRAME_BYTES)
    sums = _Sums()
    try:
        with decompressor.stream_reader(payload) as reader:
            for number, frame in enumerate(frames):
                if reader.readinto(frame.data) < _FRAME_BYTES:
                    raise BadPayloadError("they are fewer than 96 frames have")
                sums.undo_colours(frame)
                if relative.across:
                    sums.undo_across(frame)
                if relative.over_time and number:
                    frame += frames[number - 1]  # noqa: PLW2901
            if reader.read(1):
                raise BadPayloadError("they are more than 96 frames have")
    except zstandard.ZstdError as error:
        raise BadPayloadError(str(error)) from error
    for row in range(1, SIDE_PX):
        pixels[:, row] += pixels[:, row - 1]


class _Sums:
    """What is undone in one frame while the processor's cache holds it."""

    def __init__(self) -> None:
        self._picked = np.empty(_FRAME_BYTES, np.uint8)

    def undo_colours(self, frame: Pixels) -> None:
        """Green is added to red and blue."""
        picked = np.bitwise_and(frame, _GREEN, out=self._picked)
        frame[:-1] += picked[1:]
        frame[1:] += picked[:-1]

    def undo_across(self, frame: Pixels) -> None:
        """Every pixel of a group becomes the sum of those up to it: of two, of four, of eight."""
        for bytes_apart, adds in _STEPS:
            picked = np.bitwise_and(frame, adds, out=self._picked)
            frame[bytes_apart:] += picked[:-bytes_apart]


def _where(holds: npt.NDArray[np.bool_]) -> Pixels:
    """Of a frame: all bits of the bytes where this holds, of a group's bytes."""
    bits = np.where(holds, np.uint8(255), np.uint8(0))
    return np.tile(bits, _FRAME_BYTES // len(bits))


_place = np.arange(_GROUP_PX * _CHANNELS)
_GREEN = _where(_place % _CHANNELS == 1)
#: How far the bytes of a step are added, and which of them stay in their group.
_STEPS = [(px * _CHANNELS, _where(_place < (_GROUP_PX - px) * _CHANNELS)) for px in (1, 2, 4)]
