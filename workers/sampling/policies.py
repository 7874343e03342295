"""The ways in which 96 frames of a video are chosen and made into pictures, each told here alone.

Help texts, checks of a name and the table in docs/sampling.md follow from this table. It imports
nothing heavy, so that a command's help can be made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import UsageError


@dataclass(frozen=True)
class Policy:
    """One way of sampling. It is part of an encoder's identity: another policy, another space."""

    name: str
    #: What it does in a few words, as a command's help says it.
    summary: str
    #: Which rule of `workers.sampling.plan` chooses the frames.
    rule: str
    #: The cells of docs/sampling.md: positions of the frames, what to know, what it costs.
    positions: str
    remark: str
    cost: str
    #: Whether each frame is the key frame nearest to the position, and no other is decoded.
    key_frames_only: bool = False


POLICIES = {
    policy.name: policy
    for policy in (
        Policy(
            name="notebook",
            summary="every r-th frame, as the notebook took them",
            rule="stepped",
            positions="`0, r, 2r, ...`, `r = max(1, floor(fps * s / 96))`",
            remark="as the notebook chose them; the end of the minute may be left out",
            cost="the default, with which the others are compared",
        ),
        Policy(
            name="uniform",
            summary="spread evenly",
            rule="spread",
            positions="`floor(i * n / 96)`, `n = round(fps * s)`",
            remark="spread over all of the `s` seconds",
            cost="reads up to twice as far as `notebook`, which may stop halfway",
        ),
        Policy(
            name="keyframes",
            summary="the key frames nearest to those of notebook, and no other is decoded",
            rule="stepped",
            positions="the key frame nearest to each of `notebook`'s; of two as near, the earlier",
            remark="for large catalogues and models that look at single pictures, "
            "[see below](#key-frames-alone)",
            cost="what its key frames cost to decode: 11 to 44 % of the CPU time of `notebook` "
            "on eight files, half of them at most 18 %",
            key_frames_only=True,
        ),
    )
}
DEFAULT = "notebook"

#: For the option `--sampling`: of a command that samples, and of one that only names an encoder.
HELP = "How 96 frames of the first minute are chosen: " + "; ".join(
    f"{policy.name} ({policy.summary})" for policy in POLICIES.values()
)
NAMED_HELP = f"As given to enqueue: {', '.join(POLICIES)}."


def get(name: str) -> Policy:
    """Raises `UsageError` for an unknown name, with those there are."""
    if name not in POLICIES:
        raise UsageError(f"{name!r} is no sampling policy; there are {', '.join(POLICIES)}")
    return POLICIES[name]
