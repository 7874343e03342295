"""What the next worker of a job needs (`jobs.stage`), and the queue by which it is told.

    video --a sampler node writes its frames--> frames --a GPU node embeds them--> done
    frames --their pack is lost or damaged--> video

The six states are the same in both stages, and so are claim, reaper, retries and drains. Without
sampler nodes every job stays at `video`, and whoever claims it does all of it.
"""

from __future__ import annotations

from typing import NamedTuple

#: The video itself: it is sampled by whoever claims it.
VIDEO = "video"
#: Frames that are sampled already and lie in the frame store.
FRAMES = "frames"


class Queue(NamedTuple):
    """Where messages wait: for one stage, and for one encoder that only some workers can make, by
    its id.
    """

    encoder_id: int | None = None
    stage: str = VIDEO


#: Everybody's.
COMMON = Queue()
#: Everybody's who takes packs.
COMMON_FRAMES = Queue(stage=FRAMES)
