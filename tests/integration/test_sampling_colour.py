"""Rows 53 and 54: shown as a player does. Colours are checked against a conversion written out from
the standards.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from db.errors import VideoError
from tests import media
from workers.sampling.frames import Decoded
from workers.sampling.inside.decode import sample

#: FFmpeg's numbers (libavutil/pixfmt.h).
UNSAID, BT709, BT601, BT2020, YCGCO, BT2020_CONSTANT = 2, 1, 6, 9, 8, 10
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
#: Weights of red and blue in luma. Sources: ITU-R BT.601-7, BT.709-6, BT.2020-2; untagged is
#: BT.601, as FFmpeg has it.
WEIGHTS = {
    UNSAID: (0.299, 0.114),
    BT601: (0.299, 0.114),
    BT709: (0.2126, 0.0722),
    BT2020: (0.2627, 0.0593),
}
#: swscale counts in small integers: this far from the standards in 8-bit levels.
LEVELS = 6

#: Of the pictures, so that there is nothing to resize.
SIDE = 224
CELLS = 4


@dataclass(frozen=True)
class Case:
    codec: str
    pix_fmt: str
    matrix: int = UNSAID
    color_range: int = 0
    suffix: str = "mp4"
    transfer: int = UNSAID

    def __str__(self) -> str:
        return f"{self.codec}-{self.pix_fmt}-matrix{self.matrix}-range{self.color_range}-transfer{self.transfer}"


CASES = [
    Case("libx264", "yuv420p"),
    *(
        Case("libx264", "yuv420p", matrix, said)
        for matrix in (BT601, BT709, BT2020)
        for said in (LIMITED, FULL)
    ),
    Case("libx264", "yuvj420p", BT709, FULL),
    Case("libx264", "yuv422p", BT709, LIMITED),
    Case("libx264", "yuv444p", BT709, FULL),
    Case("libx264", "yuv420p10le", BT709, LIMITED),
    Case("libx264", "yuv422p10le", BT601, FULL),
    Case("libx264", "gray", suffix="mkv"),
    Case("libx264", "gray10le"),
    Case("libx265", "yuv420p10le", BT2020, LIMITED, "mkv", PQ),
    Case("libx265", "yuv420p10le", BT2020, LIMITED, "mkv", HLG),
    Case("libx265", "yuv444p12le", BT2020, FULL, "mkv"),
    Case("libx265", "gray", BT709, LIMITED, "mkv"),
    Case("libx265", "gray", BT709, FULL, "mkv"),
    Case("libx265", "gray10le", BT709, LIMITED, "mkv"),
    Case("libx265", "gray12le", BT709, FULL, "mkv"),
    Case("libx265", "gbrp", suffix="mkv"),
    Case("libvpx-vp9", "yuv440p", BT709, LIMITED, "webm"),
    Case("libvpx-vp9", "yuva420p", BT709, LIMITED, "webm"),
    Case("libvpx-vp9", "gbrp", suffix="webm"),
    Case("libsvtav1", "yuv420p10le", BT709, FULL),
    Case("mjpeg", "yuvj420p", suffix="avi"),
    Case("mjpeg", "yuvj444p", suffix="mov"),
    Case("prores_ks", "yuv422p10le", BT709, LIMITED, "mov"),
    Case("prores_ks", "yuva444p10le", BT709, LIMITED, "mov"),
]


def patches() -> list[np.ndarray]:
    """Flat fields of 16 colours, then alpha: how chroma is sampled makes no difference in their
    middle.
    """
    random = np.random.default_rng(54)
    boxes = [
        random.uniform(low, high, (CELLS, CELLS))
        for low, high in ((40, 220), (50, 206), (50, 206), (20, 255))
    ]
    return [np.kron(levels, np.ones((SIDE // CELLS, SIDE // CELLS))) for levels in boxes]


def slopes() -> list[np.ndarray]:
    """Smooth ramps in every channel and direction."""
    across = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
    return [40 + 90 * (across + across.T), 90 + 76 * across, 166 - 76 * across.T, 255 * across]


def converted(frame: av.VideoFrame, matrix: int) -> np.ndarray:
    """A decoded frame's RGB in float64, 0 to 255 `[height, width, 3]`; chroma samples are repeated,
    alpha is ignored.
    """
    bits = frame.format.components[0].bits
    planes = [plane.astype(np.float64) / (1 << bits - 8) for plane in media.planes_of(frame)]
    if frame.format.name.startswith("gbr"):
        return np.stack([planes[2], planes[0], planes[1]], -1)
    height, width = planes[0].shape
    is_full = frame.color_range == FULL
    top = (256 - 1 / (1 << bits - 8)) / 255  # full range ends at 255 of 8 bits, 255.75 of 10
    luma = planes[0] / top if is_full else (planes[0] - 16) * 255 / 219
    chroma = [np.zeros_like(luma)] * 2
    if len(planes) > 1:
        chroma = [
            plane.repeat(height // plane.shape[0], 0).repeat(width // plane.shape[1], 1) - 128
            for plane in planes[1:3]
        ]
    blue_less, red_less = (plane / top if is_full else plane * 255 / 224 for plane in chroma)
    red_weight, blue_weight = WEIGHTS[matrix]
    red, blue = luma + 2 * (1 - red_weight) * red_less, luma + 2 * (1 - blue_weight) * blue_less
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return np.clip(np.stack([red, green, blue], -1), 0, 255)


def made(case: Case, levels: list[np.ndarray], folder: Path) -> tuple[av.VideoFrame, np.ndarray]:
    """The first frame as decoded, and as sampled."""
    path = media.planar_clip(
        folder / f"clip.{case.suffix}",
        levels,
        codec=case.codec,
        pix_fmt=case.pix_fmt,
        matrix=case.matrix,
        color_range=case.color_range,
        transfer=case.transfer,
    )
    with av.open(str(path)) as opened:
        frame = next(opened.decode(video=0))
    return frame, sample_file(path).pixels[0]


def sample_file(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_row_54_colours_are_those_the_stream_says(case: Case, tmp_path: Path) -> None:
    frame, sampled = made(case, patches(), tmp_path)
    if case.color_range:  # otherwise this would compare two guesses
        assert (frame.color_range, frame.color_trc) == (case.color_range, case.transfer)
    middle = (np.arange(CELLS) * 2 + 1) * SIDE // (2 * CELLS)
    apart = np.abs(converted(frame, case.matrix) - sampled)[middle][:, middle]
    assert apart.max() <= LEVELS
    frame, sampled = made(case, slopes(), tmp_path)
    apart = np.abs(converted(frame, case.matrix) - sampled)
    assert apart.max() <= LEVELS
    assert apart.mean() <= 2


@pytest.mark.parametrize("case", [case for case in CASES if "gray" not in case.pix_fmt], ids=str)
def test_the_conversion_is_ffmpegs_bit_by_bit(case: Case, tmp_path: Path) -> None:
    frame, sampled = made(case, slopes(), tmp_path)
    np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), sampled)


def test_the_matrices_and_ranges_are_told_apart(tmp_path: Path) -> None:
    """Or the comparisons above would prove nothing."""
    seen = []
    for matrix in (BT601, BT709, BT2020):
        for color_range in (LIMITED, FULL):
            seen.append(
                made(Case("libx264", "yuv444p", matrix, color_range), patches(), tmp_path)[
                    1
                ].astype(int)
            )
    for at, one in enumerate(seen):
        assert all(np.abs(one - other).max() > LEVELS for other in seen[:at])


@pytest.mark.parametrize("matrix", [YCGCO, BT2020_CONSTANT])
def test_row_54_a_matrix_that_ffmpeg_does_not_convert_has_a_code(
    matrix: int, tmp_path: Path
) -> None:
    with pytest.raises(VideoError) as caught:
        made(Case("libx264", "yuv444p", matrix, LIMITED), patches(), tmp_path)
    assert (caught.value.code, caught.value.stage) == ("undecodable", "sample")


def squeezed(path: Path, width: int, aspect: Fraction, *, turn: bool = False) -> Path:
    """A clip of four frames, 320 x 180 in a player, or 180 x 320, stored `width` wide; the noise is
    that of 160.
    """
    with av.open(path, "w") as opened:
        stream = opened.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(-90)
        for number in range(4):
            shown = media.draw(number, 53, *((180, 320) if turn else (320, 180)))
            upright = np.rot90(shown) if turn else shown
            narrow = Image.fromarray(np.ascontiguousarray(upright)).resize(
                (160, 180), Image.Resampling.BOX
            )
            stored = narrow.resize((width, 180), Image.Resampling.BILINEAR)
            opened.mux(stream.encode(av.VideoFrame.from_image(stored)))
        opened.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("suffix", "turn"), [("mp4", False), ("mkv", False), ("ts", False), ("mp4", True)]
)
def test_row_53_pixels_that_are_not_square_equal_their_stretched_twin(
    suffix: str, turn: bool, tmp_path: Path
) -> None:
    twin = sample_file(squeezed(tmp_path / f"twin.{suffix}", 320, Fraction(1), turn=turn))
    decoded = sample_file(squeezed(tmp_path / f"narrow.{suffix}", 160, Fraction(2), turn=turn))
    assert (decoded.facts.width_px, decoded.facts.height_px) == (
        twin.facts.width_px,
        twin.facts.height_px,
    )
    assert sorted((decoded.facts.width_px, decoded.facts.height_px)) == [180, 320]
    assert [media.read_frame_number(frame) for frame in decoded.pixels[:4]] == list(range(4))
    one, other = (clip.pixels[:4].astype(float).ravel() for clip in (decoded, twin))
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.999


def test_row_53_absurd_pixels_are_taken_for_square_ones(tmp_path: Path) -> None:
    decoded = sample_file(squeezed(tmp_path / "absurd.mp4", 320, Fraction(9, 2)))
    assert (decoded.facts.width_px, decoded.facts.height_px) == (320, 180)
    assert [media.read_frame_number(frame) for frame in decoded.pixels[:4]] == list(range(4))
