"""The contact sheet: every frame in its place, its time legible, repeats dimmed, nothing over the
edge.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from workers.sampling import sheet
from workers.sampling.sheet import (
    BACKGROUND,
    CAPTION,
    COLUMNS,
    GAP,
    MARGIN,
    THUMB,
    TITLE,
    clock,
    contact_sheet,
    fitted,
)

FACTS = {"video": "h264, 320 x 180", "frames": "0 to 95"}
FRAMES, DIFFERENT = 96, 30


def colour(number: int) -> list[int]:
    """Bright enough to be told from the background, another one for every number."""
    return [120 + number, 255 - number, 80 + 2 * (number % 60)]


@pytest.fixture(scope="module")
def indices() -> np.ndarray:
    return np.minimum(np.arange(FRAMES), DIFFERENT - 1)


@pytest.fixture(scope="module")
def frames(indices: np.ndarray) -> np.ndarray:
    return np.stack([np.full((224, 224, 3), colour(index), np.uint8) for index in indices.tolist()])


@pytest.fixture(scope="module")
def drawn(frames: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.asarray(contact_sheet(frames, indices, indices / 25, title="clip.mp4", facts=FACTS))


def corner(drawn: np.ndarray, slot: int) -> tuple[int, int]:
    """Top and left of a slot's thumbnail, counted from the lower right corner of the sheet."""
    rows = FRAMES // COLUMNS
    row, column = divmod(slot, COLUMNS)
    top = drawn.shape[0] - MARGIN - (rows - row) * (THUMB + CAPTION + GAP) + GAP
    left = drawn.shape[1] - MARGIN - (COLUMNS - column) * (THUMB + GAP) + GAP
    return top, left


def thumb(drawn: np.ndarray, slot: int) -> np.ndarray:
    top, left = corner(drawn, slot)
    return drawn[top : top + THUMB, left : left + THUMB]


def caption(drawn: np.ndarray, slot: int) -> np.ndarray:
    top, left = corner(drawn, slot)
    return drawn[top + THUMB + 1 : top + THUMB + CAPTION, left : left + THUMB]


def test_each_frame_fills_its_place_and_what_is_between_stays_dark(drawn: np.ndarray) -> None:
    for slot in range(DIFFERENT):
        assert (thumb(drawn, slot) == colour(slot)).all(), slot
    top, left = corner(drawn, 1)
    assert (drawn[top : top + THUMB, left - GAP + 1 : left - 1] == BACKGROUND).all()


def test_repeats_are_dimmed_and_the_frame_they_repeat_is_not(drawn: np.ndarray) -> None:
    last = np.array(colour(DIFFERENT - 1))
    for slot in range(DIFFERENT, FRAMES):
        shown = thumb(drawn, slot)
        assert (shown < last / 2).all(), slot
        assert (shown > np.array(BACKGROUND)).all(), slot
    assert caption(drawn, DIFFERENT).max() < caption(drawn, DIFFERENT - 1).max() / 2


def test_captions_tell_time_and_position(
    drawn: np.ndarray, frames: np.ndarray, indices: np.ndarray
) -> None:
    half = THUMB // 2
    later = np.asarray(
        contact_sheet(frames, indices, indices / 25 + 60, title="clip.mp4", facts=FACTS)
    )
    moved = np.asarray(
        contact_sheet(frames, indices + 1000, indices / 25, title="clip.mp4", facts=FACTS)
    )
    for slot in (0, 29, 95):
        told, of_later, of_moved = caption(drawn, slot), caption(later, slot), caption(moved, slot)
        assert (told[:, :half] != of_later[:, :half]).any()
        assert (told[:, half:] == of_later[:, half:]).all()
        assert (told[:, half:] != of_moved[:, half:]).any()


def test_a_long_heading_ends_within_the_sheet(frames: np.ndarray, indices: np.ndarray) -> None:
    drawn = np.asarray(
        contact_sheet(frames, indices, indices / 25, title="W" * 999, facts={"video": "W" * 999})
    )
    titled, known = np.split(drawn[: corner(drawn, 0)[0] - 1], [MARGIN + TITLE - 4])
    for heading in (titled, known):
        assert (heading[:, -MARGIN:] == BACKGROUND).all()
        assert (
            heading[:, -2 * MARGIN :] != BACKGROUND
        ).any()  # and it is cut no earlier than it has to be


def test_a_row_need_not_be_full(frames: np.ndarray, indices: np.ndarray) -> None:
    count = COLUMNS + 1
    drawn = contact_sheet(
        frames[:count], indices[:count], indices[:count] / 25, title="clip.mp4", facts={}
    )
    centre = (MARGIN + THUMB // 2, drawn.height - MARGIN - CAPTION - THUMB // 2)
    assert drawn.getpixel(centre) == tuple(colour(COLUMNS))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00.0"), (9.94, "0:09.9"), (59.94, "0:59.9"), (59.96, "1:00.0"), (754.3, "12:34.3")],
)
def test_the_clock_never_shows_sixty_seconds(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_letters_that_the_font_lacks_are_not_drawn_as_boxes() -> None:
    font = ImageFont.load_default(sheet.LETTER_SIZE)
    assert fitted("café_Привет\n.mp4", font, 1000) == "cafe_???????.mp4"
    letters = "".join(map(chr, range(33, 127)))
    box = bytes(font.getmask("\uffff"))
    assert not [letter for letter in letters if bytes(font.getmask(letter)) == box]
    assert fitted(letters, font, 10_000) == letters
