"""A single picture as a video that stands still, which only a search by a file takes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from db.errors import VideoError
from workers.sampling.inside.decode import sample
from workers.sampling.inside.still import sample_or_still
from workers.sampling.plan import SHAPE

#: Dark on the left, light on the right.
RAMP = Image.fromarray(np.broadcast_to(np.arange(240, dtype=np.uint8)[:, None], (120, 240, 3)))


def encoded(kind: str, picture: Image.Image = RAMP, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file


def pixels(file: io.BytesIO) -> np.ndarray:
    out = np.zeros(SHAPE, np.uint8)
    decoded = sample_or_still(file, "notebook", out)
    assert (decoded.frame_count, decoded.facts.duration_seconds) == (1, 0.04)
    assert (out == out[0]).all(), "it stands still"
    return out[0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("jpeg", {"quality": 95}), ("jpeg", {"progressive": True}), ("png", {}), ("webp", {"lossless": True}), ("webp", {}), ("gif", {})],
)  # fmt: skip
def test_a_picture_fills_all_slots_and_no_video_is_one(kind: str, options: dict) -> None:
    file = encoded(kind, **options)
    middle = pixels(file)[112, [10, 112, 213], 1]
    assert np.abs(middle.astype(int) - [65, 120, 174]).max() <= 4, "the square in its middle"
    with pytest.raises(VideoError) as refused:
        sample(file, "notebook")
    assert refused.value.code == "not_media"


def test_a_picture_stands_as_it_was_taken() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    column = pixels(encoded("jpeg", exif=turned))[[10, 112, 213], 112, 1]
    assert np.abs(column.astype(int) - [65, 120, 174]).max() <= 4


def test_a_video_is_sampled_as_ever() -> None:
    moving = [RAMP, RAMP.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    file = encoded("gif", save_all=True, append_images=moving[1:], duration=500)
    out = np.zeros(SHAPE, np.uint8)
    assert sample_or_still(file, "notebook", out).frame_count == 2
    assert (out == sample(file, "notebook").pixels).all()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"<html>", "not_media"),
        (b"\xff\xd8\xff<html>", "undecodable"),
        (encoded("png").getvalue()[:80], "undecodable"),
        (encoded("jpeg", Image.new("L", (6100, 6100))).getvalue(), "undecodable"),
    ],
)  # fmt: skip
def test_what_is_no_picture_either_has_its_code(data: bytes, code: str) -> None:
    with pytest.raises(VideoError) as refused:
        sample_or_still(io.BytesIO(data), "notebook", np.zeros(SHAPE, np.uint8))
    assert refused.value.code == code
