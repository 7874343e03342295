"""Pixels without loss in a quarter of their bytes: differences to their neighbours, then Huffman
codes.

Red and blue are taken relative to green, every pixel relative to those left of it and above it
(uint8 arithmetic wraps, and wraps back), and where that is smaller, every frame relative to the one
before. All of these are sums when undone, over whole rows, columns and planes: the differences lie
in an order in which each sum is one of contiguous bytes, which numpy adds 64 at a time. zstd's
search for repetitions is all but switched off: in noise it finds what costs more than it saves.
Measured against other codecs in bench/RESULTS.md (`python -m bench.frames codecs`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from workers.sampling.plan import FRAMES, SHAPE, SIDE_PX

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Pixels = npt.NDArray[np.uint8]

#: Green first: red and blue are relative to it.
CHANNELS = (1, 0, 2)
#: The order in which the differences are compressed, of the axes of `SHAPE`: by column, frame, row,
#: one plane after the other.
_COLUMNS_FIRST = (2, 0, 1)
_PLANE_SHAPE = (SIDE_PX, FRAMES, SIDE_PX)
_PLANE_BYTES = FRAMES * SIDE_PX * SIDE_PX
#: zstd reserves 128 KiB for what a pack refers back to, and refuses to reserve more.
_WINDOW_LOG = 17
_ENCODING: dict[int, int] = {
    zstd.CompressionParameter.strategy: int(zstd.Strategy.fast),
    zstd.CompressionParameter.window_log: _WINDOW_LOG,
    zstd.CompressionParameter.hash_log: 6,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.content_size_flag: 0,
}
_DECODING: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}


class BadPayloadError(Exception):
    """The bytes are no compressed pixels. Its text says why."""


def compress(pixels: Pixels) -> tuple[bytes, bool]:
    """uint8 `[96, 224, 224, 3]` as bytes; and whether frames are relative to each other."""
    residual = pixels.copy()
    for channel in (0, 2):
        residual[..., channel] -= pixels[..., 1]
    residual[:, 1:] -= residual[:, :-1].copy()
    residual[:, :, 1:] -= residual[:, :, :-1].copy()
    still = _compressed(residual)
    residual[1:] -= residual[:-1].copy()
    moving = _compressed(residual)
    return (moving, True) if len(moving) < len(still) else (still, False)


def _compressed(residual: Pixels) -> bytes:
    compressor = zstd.ZstdCompressor(options=_ENCODING)
    planes = (residual[..., channel].transpose(_COLUMNS_FIRST) for channel in CHANNELS)
    pieces = [compressor.compress(plane.tobytes()) for plane in planes]
    return b"".join([*pieces, compressor.flush()])


def decompress(payload: bytes | memoryview, pixels: Pixels, *, over_time: bool) -> None:
    """Fill `pixels`, uint8 `[96, 224, 224, 3]`. No more is read of `payload` than they take.

    Raises `BadPayloadError`.
    """
    assert pixels.shape == SHAPE
    assert pixels.dtype == np.uint8
    green: Pixels | None = None
    for channel, piece in zip(CHANNELS, _planes(payload), strict=True):
        differences = np.frombuffer(piece, np.uint8).reshape(_PLANE_SHAPE)
        if green is None:
            green, plane = differences, differences.copy()
        else:
            plane = differences + green
        for column in range(1, SIDE_PX):
            plane[column] += plane[column - 1]
        for frame in range(FRAMES):
            pixels[frame, :, :, channel] = plane[:, frame].T
    for row in range(1, SIDE_PX):
        pixels[:, row] += pixels[:, row - 1]
    if over_time:
        for frame in range(1, FRAMES):
            pixels[frame] += pixels[frame - 1]


def _planes(payload: bytes | memoryview) -> Iterator[bytes]:
    """The three planes of differences, each exactly as long as it must be."""
    decompressor = zstd.ZstdDecompressor(options=_DECODING)
    try:
        for number in range(len(CHANNELS)):
            rest = payload if number == 0 else b""
            plane = decompressor.decompress(rest, max_length=_PLANE_BYTES)
            if len(plane) < _PLANE_BYTES:
                raise BadPayloadError("they are fewer than 96 frames have")
            yield plane
        more = b"" if decompressor.eof else decompressor.decompress(b"", max_length=1)
    except (zstd.ZstdError, EOFError) as error:
        raise BadPayloadError(str(error)) from error
    if more or not decompressor.eof or decompressor.unused_data:
        raise BadPayloadError("they are more than 96 frames have")
