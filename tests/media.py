"""Clips for tests, made with PyAV: frame number and seed can be read from the pixels, before and
after resizing to 224.

The centre square of every picture is an 8x8 board of dark and light blocks. Rows 0-1 spell the
frame number, rows 2-3 the seed (most significant bit first), rows 4-7 the same bits inverted, so
that a misread is noticed and never guessed away. Noise keeps the encoders honest: two different
frames never have equal pixels, a skipped reference shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec

import av
import numpy as np

from demo.encoding import priority_kept

P = ParamSpec("P")

BOARD = 8
BITS = 16
DARK, LIGHT, NOISE = 40, 215, 30

#: Options that make the encoders fast and silent.
QUIET = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "crf": "25"},
}
os.environ.setdefault(
    "SVT_LOG", "0"
)  # SVT-AV1 prints to stderr by itself unless told so in the environment


#: Pictures of at most this many pixels are drawn once and kept: drawing them costs as much as
#: encoding them, and many clips show the same ones.
KEPT_PIXELS = 112 * 81


def draw(number: int, seed: int, width: int, height: int) -> np.ndarray:
    """uint8 `[height, width, 3]`, not to be written to: the board in the centre square, noise
    everywhere.
    """
    if width * height <= KEPT_PIXELS:
        return _kept(number, seed, width, height)
    return _drawn(number, seed, width, height)


def _drawn(number: int, seed: int, width: int, height: int) -> np.ndarray:
    picture = np.random.default_rng((seed, number)).integers(
        0, NOISE, (height, width, 3), dtype=np.uint8
    )
    value = (number % (1 << BITS)) << BITS | seed % (1 << BITS)
    bits = [value >> (2 * BITS - 1 - i) & 1 for i in range(2 * BITS)]
    board = np.array([*bits, *(1 - bit for bit in bits)]).reshape(BOARD, BOARD)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    cell = np.arange(side) * BOARD // side
    levels = np.where(board, LIGHT - NOISE // 2, DARK - NOISE // 2).astype(np.uint8)
    # red, green and blue side by side: adding to three at a time is slow
    rows = levels[cell][:, np.repeat(cell, 3)]
    picture[top : top + side].reshape(side, -1)[:, 3 * left : 3 * (left + side)] += rows
    picture.flags.writeable = False
    return picture


_kept = lru_cache(maxsize=1024)(_drawn)


def read(frame: np.ndarray) -> tuple[int, int]:
    """The position of this picture in its clip, and the seed its clip was made with (both modulo
    65536); `frame` uint8 `[height, width, 3]`, upright. AssertionError if unreadable.
    """
    height, width = frame.shape[:2]
    side = min(width, height)
    centre = (np.arange(BOARD) * 2 + 1) * side // (2 * BOARD)
    rows, columns = centre + (height - side) // 2, centre + (width - side) // 2
    board = (frame[rows][:, columns].mean(axis=2) > (DARK + LIGHT) / 2).ravel()
    bits, inverted = board[: 2 * BITS], board[2 * BITS :]
    if not np.array_equal(bits, ~inverted):
        raise AssertionError("no frame number can be read from this picture")
    return divmod(int("".join("1" if bit else "0" for bit in bits), 2), 1 << BITS)


def read_frame_number(frame: np.ndarray) -> int:
    """The first thing that `read` reads."""
    return read(frame)[0]


def read_seed(frame: np.ndarray) -> int:
    """The second thing that `read` reads."""
    return read(frame)[1]


def _encoded_again(make: Callable[P, Path]) -> Callable[P, Path]:
    """SVT-AV1 and x265 now and then, on busy cores, hand out packets that no container takes: then
    they are asked again.
    """

    @wraps(make)
    def patient(*args: P.args, **kwargs: P.kwargs) -> Path:
        for _ in range(3 if kwargs.get("codec") in ("libsvtav1", "libx265") else 0):
            with suppress(av.error.ArgumentError, av.error.PatchWelcomeError):
                return make(*args, **kwargs)
        return make(*args, **kwargs)

    return patient


#: Clips of the last calls, by what they were made of: many tests begin with the same one.
_MADE: dict[tuple[str, str], bytes] = {}
KEPT_CLIPS, KEPT_BYTES = 64, 2 << 20


def _made_once(make: Callable[P, Path]) -> Callable[P, Path]:
    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Path:
        (path,) = args
        assert isinstance(path, Path)
        key = (path.suffix, repr(sorted(kwargs.items())))
        if key in _MADE:
            path.write_bytes(_MADE[key])
        elif make(*args, **kwargs).stat().st_size <= KEPT_BYTES:
            while len(_MADE) >= KEPT_CLIPS:
                del _MADE[next(iter(_MADE))]
            _MADE[key] = path.read_bytes()
        return path

    return made


@_made_once
@_encoded_again
@priority_kept()
def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    seconds: float = 4,
    fps: int = 25,
    width: int = 320,
    height: int = 180,
    pix_fmt: str = "yuv420p",
    seed: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    turn: int = 0,
    mirror: bool = False,
    audio: bool = False,
    pts: list[int] | None = None,
) -> Path:
    """Write a clip of `seconds * fps` frames; the container follows the name's ending.

    `turn`: how far a player turns the stored picture clockwise (90, 180, 270), `mirror`: and then
    flips it left to right; the board is upright in what a player shows and `width` and `height` are
    what is stored. `pts`: presentation times in 1/1000 s, one per frame, for clips of varying rate.
    """
    with av.open(path, "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(
            codec, rate=fps, options={**QUIET.get(codec, {}), **(options or {})}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if codec.startswith(
            "libvpx"
        ):  # its threads spin while they wait for each other: minutes on busy cores
            stream.codec_context.thread_count = 1
        if pts:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turn or mirror:
            stream.set_display_rotation(-turn, hflip=mirror)  # FFmpeg counts against the clock
        if audio:
            _add_silence(container, seconds)
        shown = (height, width) if turn in (90, 270) else (width, height)
        for number in range(len(pts) if pts else round(seconds * fps)):
            picture = draw(number, seed, *shown)
            picture = np.rot90(picture[:, ::-1] if mirror else picture, turn // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if pts:
                frame.pts, frame.time_base = pts[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _add_silence(container: Any, seconds: float) -> None:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 16000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def audio_only(path: Path) -> Path:
    """An mp4 with a sound track and no picture."""
    with av.open(path, "w") as container:
        _add_silence(container, 1)
    return path


def truncated(path: Path) -> Path:
    """An mp4 whose end, and so its index, was never uploaded."""
    data = make_clip(path, seconds=2).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def cut_after_moov(path: Path) -> Path:
    """An mp4 with its index at the start, cut in the middle of the pictures."""
    data = make_clip(path, container_options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def html(path: Path) -> Path:
    """What a server answers instead of a video."""
    path.write_text(
        "<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n" * 40, encoding="utf-8"
    )
    return path


def empty(path: Path) -> Path:
    """No bytes at all."""
    path.write_bytes(b"")
    return path


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """The samples of each plane as they are stored, uint8 or uint16 `[height, width]`, for planar
    formats.
    """
    planes = []
    for plane, component in zip(frame.planes, frame.format.components, strict=True):
        kind = np.uint16 if component.bits > 8 else np.uint8
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width])
    return planes


@priority_kept()
def planar_clip(
    path: Path,
    levels: list[np.ndarray],
    *,
    codec: str,
    pix_fmt: str,
    matrix: int = 2,
    color_range: int = 0,
    transfer: int = 2,
    options: dict[str, str] | None = None,
) -> Path:
    """Write two equal frames of given levels, which no conversion touches.

    `levels`: one `[height, width]` per plane, full size and in levels of 8 bits; chroma is thinned
    out and all is scaled to the depth of `pix_fmt`. `matrix`, `color_range`, `transfer`: FFmpeg's
    numbers for what the stream says of itself.
    """
    height, width = levels[0].shape
    with av.open(path, "w") as container:
        # of two frames x265's decoding times are undefined if it may reorder them
        stream = container.add_stream(
            codec, rate=25, options={**QUIET.get(codec, {}), "bf": "0", **(options or {})}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_trc = matrix, color_range, transfer
        for number in range(2):
            frame = av.VideoFrame(width, height, pix_fmt)
            frame.colorspace, frame.color_range, frame.color_trc = matrix, color_range, transfer
            for plane, component, level in zip(
                frame.planes, frame.format.components, levels, strict=False
            ):
                thin = level[:: height // plane.height, :: width // plane.width] * (
                    1 << component.bits - 8
                )
                rows = np.zeros((plane.height, plane.line_size), np.uint8).view(
                    f"u{(component.bits + 7) // 8}"
                )
                rows[:, : plane.width] = np.rint(thin)
                plane.update(rows.tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
