"""Files to measure on, made with PyAV: footage that pans, cuts and grains like a camera's, and a
screen that scrolls.

    python -m bench.footage FOLDER [--seconds 60]

Encoding takes a few minutes; a file that is there already is kept. No sampler knows what is in
them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.progress import track

from demo.encoding import priority_kept

FPS = 30
RATE = 48_000
#: A cut to another part of the canvas every so many frames.
SHOT_FRAMES = 170
GRAIN = 3

os.environ.setdefault("SVT_LOG", "0")


def canvas(width: int, height: int, seed: int) -> np.ndarray:
    """uint8 `[height, width, 3]`: colours whose power falls with frequency as in photographs (1/f),
    with hard edges.
    """
    chance = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / width)
    noise = chance.standard_normal((3, *falloff.shape)) + 1j * chance.standard_normal(
        (3, *falloff.shape)
    )
    noise[1:] = 0.8 * noise[0] + 0.4 * noise[1:]  # colours follow brightness
    picture = np.fft.irfft2(noise * falloff, s=(height, width))
    picture = 128 + 45 * picture / picture.std(axis=(1, 2), keepdims=True)
    for _ in range(60):
        top, left = chance.integers(0, height - 40), chance.integers(0, width - 40)
        picture[
            :, top : top + chance.integers(20, 300), left : left + chance.integers(20, 300)
        ] += chance.integers(-60, 60, (3, 1, 1))
    return np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def camera(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """A camera that pans over a canvas, cuts, and has grain; two things move through the
    picture.
    """
    chance = np.random.default_rng(1)
    scene = canvas(2 * width, 2 * height, seed=2)
    things = [canvas(width // 6, height // 4, seed) for seed in (3, 4)]
    grain = chance.integers(-GRAIN, GRAIN + 1, (2 * height, 2 * width, 1), dtype=np.int16)
    for number in range(frames):
        if number % SHOT_FRAMES == 0:
            start = chance.uniform(0.2, 0.8, 2) * (height, width)
            speed = chance.uniform(-2, 2, 2)
        top, left = (
            int(edge) for edge in (start + speed * (number % SHOT_FRAMES)).clip(0, (height, width))
        )
        picture = scene[top : top + height, left : left + width].astype(np.int16)
        for index, thing in enumerate(things):
            y = int((height - thing.shape[0]) * (0.5 + 0.5 * np.sin(number / (31 + 7 * index))))
            x = int((width - thing.shape[1]) * (0.5 + 0.5 * np.cos(number / (43 - 9 * index))))
            picture[y : y + thing.shape[0], x : x + thing.shape[1]] = thing
        y, x = chance.integers(0, height), chance.integers(0, width)
        picture += grain[y : y + height, x : x + width]
        yield picture.clip(0, 255).astype(np.uint8)


def screen(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """Text on white that scrolls now and then, under a pointer that moves."""
    chance = np.random.default_rng(5)
    page = np.full((4 * height, width, 3), 250, np.uint8)
    for line in range(8, 4 * height - 16, 24):
        for column in range(60, int(width * chance.uniform(0.4, 0.95)), 11):
            if chance.random() < 0.85:
                letter = chance.random((14, 8)) < 0.45
                page[line : line + 14, column : column + 8][letter] = 40
    offset = 0.0
    for number in range(frames):
        if number % 150 > 120:
            offset = min(offset + 12, 3 * height)
        picture = page[int(offset) : int(offset) + height].copy()
        y = int((height - 20) * (0.5 + 0.4 * np.sin(number / 50)))
        x = int((width - 20) * (0.5 + 0.4 * np.cos(number / 37)))
        picture[y : y + 16, x : x + 12] = (20, 90, 200)
        yield picture


@dataclass(frozen=True)
class Footage:
    name: str
    codec: str
    height_px: int
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    draw: Callable[[int, int, int], Iterator[np.ndarray]] = camera

    @priority_kept()
    def make(self, folder: Path, seconds: float) -> Path:
        path = folder / self.name
        if path.exists():
            return path
        part = path.with_name(f"part-{path.name}")
        width, frames = self.height_px * 16 // 9, round(seconds * FPS)
        with av.open(part, "w", options=self.container_options) as out:
            video = out.add_stream(self.codec, rate=FPS, options=self.options)
            video.width, video.height, video.pix_fmt = width, self.height_px, "yuv420p"
            sound = out.add_stream(
                "libopus" if path.suffix == ".webm" else "aac", rate=RATE, layout="mono"
            )
            heard = 0
            pictures = self.draw(width, self.height_px, frames)
            for number, picture in enumerate(
                track(pictures, self.name, total=frames, console=Console(stderr=True))
            ):
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                while heard * FPS < number * RATE:
                    out.mux(sound.encode(_tone(heard)))
                    heard += 960
            out.mux(video.encode())
            out.mux(sound.encode())
        return part.rename(path)


def _tone(start: int) -> av.AudioFrame:
    wave = (0.1 * np.sin((start + np.arange(960)) * 0.05)).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = RATE, start
    return frame


#: x264's own defaults.
_DEFAULT = {"preset": "medium", "crf": "23"}
#: As large sites publish: a quick preset at a stated rate, a key frame every 2 s, B frames that
#: nothing refers to.
_WEB = {"preset": "veryfast", "g": "60", "sc_threshold": "0", "x264-params": "b-pyramid=none"}
_FASTSTART = {"movflags": "faststart"}

FOOTAGE = (
    Footage("h264-default-720p.mp4", "libx264", 720, _DEFAULT),
    Footage("h264-default-1080p.mp4", "libx264", 1080, _DEFAULT),
    Footage("h264-web-720p.mp4", "libx264", 720, _WEB | {"b": "1500k", "maxrate": "2250k", "bufsize": "3000k"}, _FASTSTART,),
    Footage("h264-web-1080p.mp4", "libx264", 1080, _WEB | {"b": "3000k", "maxrate": "4500k", "bufsize": "6000k"}, _FASTSTART,),
    Footage("hevc-720p.mp4", "libx265", 720, {"x265-params": "log-level=none"}),
    Footage("vp9-720p.webm", "libvpx-vp9", 720, {"crf": "33", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
    Footage("av1-720p.mp4", "libsvtav1", 720, {"preset": "8", "crf": "35"}),
    Footage("screen-1080p.mp4", "libx264", 1080, _DEFAULT, draw=screen),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for footage in FOOTAGE:
        footage.make(chosen.folder, chosen.seconds)


if __name__ == "__main__":
    main()
