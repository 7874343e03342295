"""Five thousand damaged videos: no sampler ends otherwise than by a video's own code, a deadline or
a death of FFmpeg.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import fuzzing

SEEDS = range(5000)


@pytest.mark.timeout(3600)
def test_five_thousand_damaged_videos_end_with_frames_or_a_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def tell(outcome: fuzzing.Outcome) -> None:
        if outcome.seed % 100 == 99:
            print(
                f"\r{outcome.seed + 1} of {len(SEEDS)} files", end="", file=sys.stderr, flush=True
            )

    with capfd.disabled():
        outcomes = fuzzing.fuzz(tmp_path, SEEDS, tell)
        print("", fuzzing.summary(outcomes), *fuzzing.lost_processes(outcomes), sep="\n")
    assert not fuzzing.defects(outcomes)
    endings = Counter(outcome.ending for outcome in outcomes)
    for ending in fuzzing.ENDINGS[:8]:  # all but death and time out
        assert endings[ending]
