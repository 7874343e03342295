"""One video after the other, right here, for `embed` and `sample`: one that fails is said and costs
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import typer

from producer.desk import say
from producer.tables import print_json

if TYPE_CHECKING:
    from producer.local.videos import Named

T = TypeVar("T")


def results_in_turn(
    videos: Sequence[Named], work: Callable[[int], T], *, as_json: bool
) -> Iterator[T]:
    """What `work` makes of the video of each number. Ends with FINISHED_WITH_FAILURES if one ended
    in `VideoError`.
    """
    from db.errors import VideoError
    from db.exit_codes import ExitCode

    failed = False
    for number, video in enumerate(videos):
        if video.warning:
            say(f"warning: {video.warning}")
        try:
            made = work(number)
        except VideoError as error:
            failed = True
            say(f"error: {video.shown}: {error.code}: {error}")
            if as_json:
                print_json({"file": video.shown, "error_code": error.code, "error": str(error)})
            continue
        yield made
    if failed:
        raise typer.Exit(ExitCode.FINISHED_WITH_FAILURES)
