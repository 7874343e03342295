"""How much damage a video may have and still be embedded: the limit, argued with measurements in
docs/sampling.md.
"""

from __future__ import annotations

from db.errors import VideoError

#: Of the 96 slots. Up to here vectors stay near those of the whole file; above, whatever the
#: decoder left is noise.
MAX_DAMAGED_SHARE = 0.1


def refusal(damaged_share: float) -> VideoError | None:
    """The error (damaged, permanent) that a video with this share of damaged slots ends with, if it
    has too many.
    """
    if damaged_share <= MAX_DAMAGED_SHARE:
        return None
    message = (
        f"{damaged_share:.0%} of the frames are lost, or reported as damaged by the decoder; at "
        "most "
        f"{MAX_DAMAGED_SHARE:.0%} is allowed: fetch the file again from where it came, then run "
        "reelvec retry --error damaged"
    )
    return VideoError("damaged", message, stage="sample")
