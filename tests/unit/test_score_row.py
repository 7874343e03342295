"""What is stored of a video's scores: everything of a small label set, the best of a large one."""

from __future__ import annotations

from uuid import uuid4

import numpy as np

from db.jobs.outcome import KEPT_TAGS, SCORE_COLUMNS, WHOLE_CATEGORIES, TaggerRows, score_row


def stored(categories: int) -> dict[str, object]:
    """Two windows, of which the second is surer of the last category."""
    windows = np.full((2, categories), 0.1, np.float32)
    windows[1, -1] = 0.9
    rows = TaggerRows(7, tuple(f"c{number}" for number in range(categories)), windows)
    return dict(zip(SCORE_COLUMNS, score_row(rows, 5, uuid4()), strict=True))


def test_of_a_small_label_set_every_window_is_kept() -> None:
    row = stored(WHOLE_CATEGORIES)
    assert (row["tags"], row["tag"]) == (None, f"c{WHOLE_CATEGORIES - 1}")
    assert np.shape(row["window_probabilities"]) == (2, WHOLE_CATEGORIES)
    assert np.shape(row["probabilities"]) == (WHOLE_CATEGORIES,)


def test_of_a_large_one_the_best_of_the_video_alone() -> None:
    row = stored(WHOLE_CATEGORIES + 1)
    assert row["window_probabilities"] is None, "52 KB a video for a thousand categories"
    assert row["tags"] == [f"c{number}" for number in (WHOLE_CATEGORIES, *range(KEPT_TAGS - 1))]
    assert np.allclose(np.asarray(row["probabilities"])[:2], (0.5, 0.1))
    assert (row["tag"], round(float(str(row["probability"])), 3)) == (f"c{WHOLE_CATEGORIES}", 0.5)
