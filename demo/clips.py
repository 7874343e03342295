"""Short, varied clips in the notebook's category folders: drawn ones, pans and zooms over
photographs, and one that is broken on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from demo.encoding import priority_kept
from demo.photographs import PHOTOGRAPHS, Photograph

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """`folder` carries the category; `codec` is an encoder of FFmpeg."""

    folder: str
    name: str
    codec: str
    seconds: float
    fps: int
    width_px: int
    height_px: int


DRAWN = (
    Clip("48.0_films", "harbour at dusk.mp4", "libx264", 6, 24, 640, 360),
    Clip("48.0_films", "the long corridor.mp4", "libx264", 5, 25, 480, 270),
    Clip("48.0_films", "night train.mkv", "libx265", 5, 24, 480, 270),
    Clip("48.0_films", "snow.webm", "libvpx-vp9", 4, 25, 320, 180),
    Clip("46.0_animals", "two koi.mp4", "libx264", 5, 30, 480, 270),
    Clip("46.0_animals", "fireflies.mkv", "libx264", 4, 25, 320, 240),
    Clip("46.0_animals", "beetle portrait.mp4", "libx265", 4, 25, 270, 480),
    Clip("46.0_animals", "jellyfish.mp4", "libsvtav1", 4, 25, 320, 180),
    Clip("29.0_design", "tiles.mp4", "libx264", 4, 25, 480, 270),
    Clip("29.0_design", "wallpaper.webm", "libvpx-vp9", 4, 30, 320, 180),
    Clip("29.0_design", "colour wheel.mkv", "libsvtav1", 4, 25, 320, 320),
)
#: Two clips of each photograph, in two codecs; the title says which movement it is.
PHOTOGRAPHED = tuple(
    (photograph, Clip(photograph.folder, f"{photograph.title} {ending}", codec, 4, 25, 400, 300))
    for photograph in PHOTOGRAPHS
    for ending, codec in (("pan.mp4", "libx264"), ("zoom.webm", "libvpx-vp9"))
)
#: The part of a photograph that a pan shows at once, and that a zoom ends with.
PAN_SHARE, ZOOM_SHARE = 0.8, 0.6
COUNT = len(DRAWN) + len(PHOTOGRAPHED) + 1
BROKEN = Path("48.0_films") / "broken on purpose.mp4"
#: x265 tells its whole configuration otherwise.
QUIET = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "veryfast", "x265-params": "log-level=error"},
    "libsvtav1": {"preset": "10"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def make(folder: Path, advance: Callable[[str], None]) -> None:
    """Write what is missing of the clips below `folder`."""
    os.environ["SVT_LOG"] = "1"  # SVT-AV1 reads no option for its own talk
    pictures = {clip: _drawn(clip, number) for number, clip in enumerate(DRAWN)}
    pictures |= {clip: _moving(photograph, clip) for photograph, clip in PHOTOGRAPHED}
    for clip, frames in pictures.items():
        path = folder / clip.folder / clip.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write(path, clip, frames)
        advance(clip.name)
    whole = (folder / DRAWN[0].folder / DRAWN[0].name).read_bytes()
    (folder / BROKEN).write_bytes(
        whole[: len(whole) // 2]
    )  # its index stands at the end: it is gone
    advance(BROKEN.name)


@priority_kept()
def _write(path: Path, clip: Clip, pictures: Iterator[Picture]) -> None:
    unfinished = path.with_name(f".unfinished {path.name}")
    container_format = "matroska" if path.suffix == ".mkv" else path.suffix[1:]
    with av.open(str(unfinished), "w", format=container_format) as container:
        stream = container.add_stream(clip.codec, rate=clip.fps, options=QUIET[clip.codec])
        stream.width, stream.height, stream.pix_fmt = clip.width_px, clip.height_px, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    unfinished.rename(path)


def _moving(photograph: Photograph, clip: Clip) -> Iterator[Picture]:
    """What a camera sees that pans or zooms over a photograph."""
    with Image.open(photograph.path) as file:
        picture = file.convert("RGB")
    # the largest part of the picture that has the clip's shape
    scale = min(picture.width / clip.width_px, picture.height / clip.height_px)
    count = int(clip.seconds * clip.fps)
    for index in range(count):
        done = index / (count - 1)
        is_zoom = Path(clip.name).stem.endswith("zoom")
        share, place = (1 - (1 - ZOOM_SHARE) * done, 0.5) if is_zoom else (PAN_SHARE, done)
        width, height = scale * share * clip.width_px, scale * share * clip.height_px
        left, top = place * (picture.width - width), place * (picture.height - height)
        yield np.asarray(
            picture.resize(
                (clip.width_px, clip.height_px),
                Image.Resampling.BICUBIC,
                box=(left, top, left + width, top + height),
            )
        )


def _drawn(clip: Clip, number: int) -> Iterator[Picture]:
    draw = {"48.0_films": _scene, "46.0_animals": _creatures, "29.0_design": _pattern}[clip.folder]
    y, x = np.mgrid[0 : clip.height_px, 0 : clip.width_px].astype(np.float32)
    x, y = x / clip.width_px, y / clip.height_px
    for index in range(int(clip.seconds * clip.fps)):
        yield draw(x, y, index / clip.fps, number)


def _colours(red: Picture, green: Picture, blue: Picture) -> Picture:
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


def _scene(x: Picture, y: Picture, seconds: float, number: int) -> Picture:
    """A dark gradient with a slow pan and black bars above and below."""
    light = 60 + 70 * np.sin(3 * x + 0.6 * seconds + number) * (1 - y)
    light = np.where((y < 0.12) | (y > 0.88), 0, light)
    return _colours(light + 12 * number, light * 0.8, light * (0.7 + 0.1 * number))


def _creatures(x: Picture, y: Picture, seconds: float, number: int) -> Picture:
    """Bright bodies that wander over green."""
    red, green, blue = np.full_like(x, 30), 90 + 40 * y, np.full_like(x, 50)
    for body in range(2 + number % 3):
        centre_x = 0.5 + 0.4 * np.sin(seconds * (0.7 + 0.2 * body) + body + number)
        centre_y = 0.5 + 0.35 * np.cos(seconds * (0.5 + 0.3 * body) + 2 * body)
        inside = (x - centre_x) ** 2 + 2 * (y - centre_y) ** 2 < 0.01 + 0.004 * body
        red, green = np.where(inside, 230, red), np.where(inside, 90 + 40 * body, green)
    return _colours(red, green, blue)


def _pattern(x: Picture, y: Picture, seconds: float, number: int) -> Picture:
    """Tiles that shift."""
    tiles = (np.floor(x * (6 + number) + seconds) + np.floor(y * 6)) % 2
    return _colours(255 * tiles, 200 - 120 * tiles, np.full_like(x, 40 + 15 * number))
