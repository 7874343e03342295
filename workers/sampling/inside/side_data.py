"""Reading what lies beside a frame, also where PyAV has no name for it.

PyAV 18.1 names 28 kinds of side data, FFmpeg 8.1 has more (MV-HEVC's view is the 29th), and one
without a name makes all of a frame's unreadable.
"""

from __future__ import annotations

from typing import Any

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

#: Nine int32.
_MATRIX_BYTES = 36


def _unnamed(kind: type[Type], number: object) -> Type:
    """A kind of its own for a number without a name."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"UNNAMED_{number}", number
    return member  # type: ignore[no-any-return]


setattr(Type, "_missing_", classmethod(_unnamed))  # noqa: B010 - the hook that `Enum` has for this


def display_matrix(frame: VideoFrame) -> bytes | None:
    """How a player turns the picture: 9 int32; None if the frame does not say."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None or len(bytes(matrix)) < _MATRIX_BYTES else bytes(matrix)
