"""What encoding a clip leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from demo import clips
from tests import media


def test_no_encoder_changes_the_priority_of_its_caller(tmp_path: Path) -> None:
    """It can fail only for root: SVT-AV1 has no right to change it for others."""
    before = os.sched_getscheduler(0)
    media.make_clip(tmp_path / "one.mp4", codec="libsvtav1", seconds=0.2, width=64, height=64)
    assert os.sched_getscheduler(0) == before
    grey = [np.full((64, 64), 128, np.uint8)] * 3
    media.planar_clip(tmp_path / "two.mp4", grey, codec="libsvtav1", pix_fmt="yuv420p")
    assert os.sched_getscheduler(0) == before
    clip = clips.Clip("", "three.mp4", "libsvtav1", 0.2, 25, 64, 64)
    clips._write(tmp_path / clip.name, clip, iter([np.zeros((64, 64, 3), np.uint8)] * 5))
    assert os.sched_getscheduler(0) == before
