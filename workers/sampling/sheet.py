"""A contact sheet: the 96 frames of a video in one picture, to be looked at by a person."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.sampling.drawing import thumb

Colour = tuple[int, int, int]

COLUMNS = 12
#: Sizes in pixels.
THUMB, GAP, MARGIN, CAPTION, TITLE, LINE, SUBJECT = 144, 10, 28, 24, 38, 22, 82
#: Sizes of letters.
LETTER_SIZE, TITLE_SIZE = 15, 25

BACKGROUND: Colour = (21, 24, 29)
WHITE: Colour = (232, 234, 237)
SILVER: Colour = (176, 184, 193)
SLATE: Colour = (124, 136, 148)
FAINT: Colour = (84, 93, 103)
#: Around each frame: dark ones would have no edge.
EDGE: Colour = (44, 50, 58)
#: How much of a repeated frame the background hides.
DIMMED = 0.75


def contact_sheet(
    frames: np.ndarray,
    frame_indices: np.ndarray,
    pts_seconds: np.ndarray,
    *,
    title: str,
    facts: Mapping[str, str],
) -> Image.Image:
    """An RGB picture of all frames in reading order, below each its time and its position in the
    video.

    `frames` uint8 `[n, h, w, 3]`, `frame_indices` int64 `[n]`, `pts_seconds` float64 `[n]`. A frame
    with the position of the one before is dimmed: it repeats it. `title` and `facts`, what is known
    by subject, stand above, cut where the sheet ends.
    """
    rows = -(-len(frames) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * (THUMB + GAP) - GAP
    top = MARGIN + TITLE + len(facts) * LINE + GAP + 2
    sheet = Image.new(
        "RGB", (width, top + rows * (THUMB + CAPTION + GAP) - GAP + MARGIN), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    _heading(draw, title, facts, room=width - 2 * MARGIN)
    for slot, (frame, index, seconds) in enumerate(
        zip(frames, frame_indices, pts_seconds, strict=True)
    ):
        row, column = divmod(slot, COLUMNS)
        left, upper = MARGIN + column * (THUMB + GAP), top + row * (THUMB + CAPTION + GAP)
        repeats = slot > 0 and index == frame_indices[slot - 1]
        picture = thumb(frame, THUMB)
        if repeats:
            picture = Image.blend(picture, Image.new("RGB", picture.size, BACKGROUND), DIMMED)
        draw.rectangle((left - 1, upper - 1, left + THUMB, upper + THUMB), outline=EDGE)
        sheet.paste(picture, (left, upper))
        _caption(draw, left, upper + THUMB + 5, clock(seconds), f"#{index}", repeats=repeats)
    return sheet


def _heading(draw: ImageDraw.ImageDraw, title: str, facts: Mapping[str, str], *, room: int) -> None:
    font = ImageFont.load_default(TITLE_SIZE)
    draw.text((MARGIN, MARGIN - 4), fitted(title, font, room), WHITE, font)
    font = ImageFont.load_default(LETTER_SIZE)
    for number, (subject, words) in enumerate(facts.items()):
        upper = MARGIN + TITLE + number * LINE
        draw.text((MARGIN, upper), subject, SLATE, font)
        draw.text((MARGIN + SUBJECT, upper), fitted(words, font, room - SUBJECT), SILVER, font)


def _caption(
    draw: ImageDraw.ImageDraw, left: int, upper: int, time: str, position: str, *, repeats: bool
) -> None:
    font = ImageFont.load_default(LETTER_SIZE)
    draw.text((left, upper), time, FAINT if repeats else WHITE, font)
    draw.text((left + THUMB, upper), position, FAINT if repeats else SLATE, font, anchor="ra")


def clock(seconds: float) -> str:
    """m:ss.s"""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """`text` in letters that Pillow's own font has (ASCII), cut to `room` pixels."""
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(letter)
    )
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() else "?" for letter in plain
    )
    shown = plain
    while shown and font.getlength(shown) > room:
        plain = plain[:-1]
        shown = plain + "..."
    return shown
