"""Small pictures of frames, for people: the strip that every video keeps, and what a contact sheet
is made of.

Only pixels come here, never a file: whatever was hostile in them is behind the sampler's wall.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

#: Which of the 96 frames stand in a strip: the middle of each third of what was sampled.
STRIP_SLOTS = (16, 48, 80)
#: Of each frame of a strip; as WebP of this quality three of them take about 6 KB.
STRIP_PX, STRIP_QUALITY = 112, 60
#: Libwebp's effort, of 6: 4 would save 4 % of the bytes and take twice as long.
STRIP_EFFORT = 2


def thumb(frame: np.ndarray, size_px: int) -> Image.Image:
    """A frame, uint8 `[h, w, 3]`, as an RGB square of this size."""
    picture = Image.fromarray(frame)
    if picture.size == (2 * size_px, 2 * size_px):
        return picture.reduce(2)  # means of four pixels, in a tenth of the time
    return picture.resize((size_px, size_px), Image.Resampling.LANCZOS)


def strip(frames: np.ndarray) -> bytes:
    """Three of the 96 `frames`, uint8 `[96, h, w, 3]`, side by side in time, as a WebP file of
    336 x 112 pixels.
    """
    drawn = Image.new("RGB", (len(STRIP_SLOTS) * STRIP_PX, STRIP_PX))
    for place, slot in enumerate(STRIP_SLOTS):
        drawn.paste(thumb(frames[slot], STRIP_PX), (place * STRIP_PX, 0))
    file = io.BytesIO()
    drawn.save(file, "webp", quality=STRIP_QUALITY, method=STRIP_EFFORT)
    return file.getvalue()
