"""As in `tests/fault/test_models.py`, with 200 videos before the second worker comes and 200 more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.conftest import Desk, WorkerProcess
from tests.fault.test_models import assert_what_can_be_made_is_made


@pytest.mark.timeout(1800)
def test_two_hundred_videos_of_which_one_has_the_weights(
    desk: Desk, tmp_path: Path, start_worker: Callable[..., WorkerProcess], engine: Engine
) -> None:
    assert_what_can_be_made_is_made(desk, tmp_path, start_worker, engine, videos=200)
