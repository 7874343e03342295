"""Videos to measure the pipeline on: a few short clips, each under as many names as it takes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bench.footage import FOOTAGE

#: Footage that the clips are made like: a camera as x264 encodes by default, as large sites
#: publish, as HEVC; a screen.
KINDS = ("h264-default-720p.mp4", "h264-web-720p.mp4", "hevc-720p.mp4", "screen-1080p.mp4")


def make(folder: Path, *, videos: int, seconds: float, height_px: int) -> list[Path]:
    """`videos` files in `folder`/videos, the kinds in turns: to the ledger a video is its name."""
    clips, named = folder / "clips", folder / "videos"
    for made in (clips, named):
        made.mkdir(parents=True, exist_ok=True)
    kinds = [replace(footage, height_px=height_px) for footage in FOOTAGE if footage.name in KINDS]
    sources = [kind.make(clips, seconds) for kind in kinds]
    files = [named / f"{number:05}.mp4" for number in range(videos)]
    for number, file in enumerate(files):
        os.link(sources[number % len(sources)], file)
    return files
