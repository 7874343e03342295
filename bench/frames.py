"""Frame packs: how 96 frames are kept without loss, what that takes of bytes and of CPU.

    python -m bench.frames codecs [FRAMES.npz ...]

Prints tables of bench/RESULTS.md. FRAMES.npz is what `reelvec sample FILE --out` writes; without
any, pans over photographs of scikit-image (extra `demo`) with a camera's noise are packed. Seconds
are of this thread's CPU, the least of `RUNS`; all codecs run in turns in one process, so that their
ratios hold on a busy machine, too. One function a table: add yours to `TABLES`.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import zstandard
from PIL import Image

from db.media import MediaFacts
from demo.photographs import PHOTOGRAPHS
from workers.frames import codec, pack
from workers.frames.codec import Relative
from workers.frames.store import digest, verified
from workers.sampling.frames import Frames
from workers.sampling.plan import FRAMES, SHAPE, SIDE_PX

RUNS = 5
#: Writes the pixels uint8 `SHAPE` into bytes, and reads them back.
Codec = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]


def pan(number: int, noise: float = 1.5) -> np.ndarray:
    """Frames of a camera that moves over a photograph, with the noise of its sensor."""
    picture = Image.open(PHOTOGRAPHS[number].path).convert("RGB").resize((448, 336))
    wide, dice = np.asarray(picture, np.float32), np.random.default_rng(number)
    frames = np.empty(SHAPE, np.uint8)
    for frame in range(FRAMES):
        left, top = 2 * frame, frame
        seen = wide[top : top + SIDE_PX, left : left + SIDE_PX]
        frames[frame] = np.clip(seen + dice.normal(0, noise, seen.shape), 0, 255)
    return frames


def packed(frames: np.ndarray) -> bytes:
    payload, relative = codec.compress(frames)
    return bytes([relative.over_time, relative.across]) + payload


def unpacked(data: bytes) -> np.ndarray:
    frames = np.empty(SHAPE, np.uint8)
    relative = Relative(over_time=bool(data[0]), across=bool(data[1]))
    codec.decompress(memoryview(data)[2:], frames, relative)
    return frames


def gradient(frames: np.ndarray) -> bytes:
    """The sketch that the packs began as: the same differences in planes, zstd 1."""
    planes = frames.copy()
    planes[..., 0] -= planes[..., 1]
    planes[..., 2] -= planes[..., 1]
    planes = np.ascontiguousarray(planes.transpose(0, 3, 1, 2))
    rows = planes.copy()
    rows[:, :, 1:] -= planes[:, :, :-1]
    both = rows.copy()
    both[..., 1:] -= rows[..., :-1]
    return zstandard.compress(both.tobytes(), 1)


def from_gradient(data: bytes) -> np.ndarray:
    residual = np.frombuffer(zstandard.decompress(data), np.uint8).reshape(
        FRAMES, 3, SIDE_PX, SIDE_PX
    )
    planes = np.cumsum(np.cumsum(residual, axis=-1, dtype=np.uint8), axis=2, dtype=np.uint8)
    frames = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    frames[..., 0] += frames[..., 1]
    frames[..., 2] += frames[..., 1]
    return frames


def of_ffmpeg(name: str, pixel_format: str, **options: str) -> Codec:
    """A codec of FFmpeg on one thread. Packets are kept with their lengths."""

    def write(frames: np.ndarray) -> bytes:
        writer = _context(name, "w", pixel_format)
        writer.time_base, writer.options = Fraction(1, 25), options
        made = [
            packet
            for frame in frames
            for packet in writer.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        ]
        made += writer.encode(None)
        extra = bytes(writer.extradata or b"")
        pieces = [extra, *map(bytes, made)]
        return b"".join(len(piece).to_bytes(4, "little") + piece for piece in pieces)

    def read(data: bytes) -> np.ndarray:
        pieces = list(_pieces(data))
        reader = _context(name, "r", pixel_format)
        reader.extradata = pieces[0] or None
        packets = [*map(av.Packet, pieces[1:]), None]
        decoded = (frame for packet in packets for frame in reader.decode(packet))
        return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])

    return write, read


def _context(name: str, mode: str, pixel_format: str) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, mode)
    context.width = context.height = SIDE_PX
    context.pix_fmt, context.thread_count = pixel_format, 1
    return context


def _pieces(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        yield data[place + 4 : place + 4 + length]
        place += 4 + length


def to_webp(frames: np.ndarray) -> bytes:
    """All frames below each other would be too high for WebP: eight side by side, twelve rows."""
    sheet = frames.reshape(12, 8, SIDE_PX, SIDE_PX, 3).transpose(0, 2, 1, 3, 4)
    file = io.BytesIO()
    Image.fromarray(sheet.reshape(12 * SIDE_PX, 8 * SIDE_PX, 3)).save(
        file, "webp", lossless=True, method=0, quality=0
    )
    return file.getvalue()


def from_webp(data: bytes) -> np.ndarray:
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    tiles = sheet.reshape(12, SIDE_PX, 8, SIDE_PX, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles).reshape(SHAPE)


CODECS: dict[str, Codec] = {
    "as they are": (lambda frames: frames.tobytes(), lambda data: np.frombuffer(bytearray(data), np.uint8).reshape(SHAPE)),
    "zstd 1": (lambda frames: zstandard.compress(frames.tobytes(), 1), lambda data: np.frombuffer(bytearray(zstandard.decompress(data)), np.uint8).reshape(SHAPE)),
    "planes, gradient, zstd 1 (the sketch)": (gradient, from_gradient),
    "WebP lossless, method 0": (to_webp, from_webp),
    "MagicYUV gbrp, gradient": of_ffmpeg("magicyuv", "gbrp", pred="gradient"),
    "FFV1 bgr0, golomb": of_ffmpeg("ffv1", "bgr0", level="3", coder="0", context="0", slicecrc="0"),
    "**the packs'**": (packed, unpacked),
}  # fmt: skip


def seconds_of(act: Callable[[], object], runs: int = RUNS) -> float:
    def once() -> float:
        began = time.thread_time()
        act()
        return time.thread_time() - began

    return min(once() for _ in range(runs))


def codecs(clips: dict[str, np.ndarray]) -> None:
    """Bytes and CPU of every codec, and those of a whole pack."""
    print("| codec | clip | MB | write, s | read, s |\n|---|---|---|---|---|")
    for clip, frames in clips.items():
        for name, (write, read) in CODECS.items():
            data = write(frames)
            assert np.array_equal(read(data), frames), name
            writing = seconds_of(lambda w=write, f=frames: w(f), 2)
            reading = seconds_of(lambda r=read, d=data: r(d))
            print(f"| {name} | {clip} | {len(data) / 1e6:.2f} | {writing:.3f} | {reading:.3f} |")
        _whole(clip, frames)


def _whole(clip: str, frames: np.ndarray) -> None:
    """A pack with its header, held against its digest, into memory that is there."""
    slots = np.arange(FRAMES)
    facts = MediaFacts("h264", 1280, 720, 25.0, 60.0)
    sampled = Frames(
        frames, slots, slots / 1.6, facts, 1500, 1400, "sparse", 0, 0.0, 2.0, "v", 5_000_000, 0.1
    )
    made = pack.Pack(sampled, "notebook", 9_000_000, bytes(6000))
    data, memory = pack.encode(made), np.empty(SHAPE, np.uint8)
    name = digest(data)
    writing = seconds_of(lambda: pack.encode(made), 2)
    checking = seconds_of(lambda: verified(name, data))
    reading = seconds_of(lambda: pack.decode(data, new_frames=lambda: memory))
    print(
        f"| a whole pack; its digest alone: {checking:.3f} s | {clip} | {len(data) / 1e6:.2f} | "
        f"{writing:.3f} | {checking + reading:.3f} |"
    )


TABLES: dict[str, Callable[[dict[str, np.ndarray]], None]] = {"codecs": codecs}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("frames", nargs="*", type=Path, metavar="FRAMES.npz")
    asked = parser.parse_args(arguments)
    clips = {path.stem: np.load(path)["frames"] for path in asked.frames}
    TABLES[asked.table](clips or {f"pan {number}": pan(number) for number in range(3)})


if __name__ == "__main__":
    main()
