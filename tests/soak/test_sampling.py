"""Sampling against decoding everything, of the codecs and containers that `make test` leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.codec_clips import MORE_CLIPS, Clip
from tests.integration.test_sampling_decode import (
    assert_frames_are_those_of_decoding_everything,
    folder,
    made,
    resized_once,
)

__all__ = ["folder", "made", "resized_once"]  # fixtures


@pytest.mark.parametrize("clip", MORE_CLIPS, ids=lambda clip: clip.name)
def test_frames_are_those_of_decoding_everything(clip: Clip, made: Callable[[Clip], Path]) -> None:
    assert_frames_are_those_of_decoding_everything(clip, made(clip))
