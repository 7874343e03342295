"""What `reelvec evaluate` prints for people: chance and interval beside every figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from producer.results.figures import KS, Calibration, Share
from producer.results.zero_shot import ZeroShot
from producer.tables import print_table
from producer.wording import listed, plural

SHARES = tuple(f"top {k}, % (95 % of draws; chance)" for k in KS)
_RELIABILITY = ("probability", "videos", "mean probability", "right")


def shares_cells(shares: Sequence[Share]) -> list[str]:
    """A cell for each of `KS`: `8.17 (5.45-10.89; 2.13)`; empty where there are no more categories
    than that.
    """
    by_k = {share.k: share for share in shares}
    return [_cell(by_k[k]) if k in by_k else "" for k in KS]


def _cell(share: Share) -> str:
    return f"{share.percent:.2f} ({share.low:.2f}-{share.high:.2f}; {share.chance:.2f})"


def print_zero_shot(found: Sequence[ZeroShot]) -> None:
    rows = [
        [one.tagger, way.by, f"{one.videos:,}", *shares_cells(way.shares)]
        for one in found
        for way in one.ways
    ]
    print_table(("tagger", "by", "videos", *SHARES), rows)
    print_reliability(("tagger",), [((one.tagger,), one.calibration) for one in found])


def print_reliability(
    names: Sequence[str], found: Iterable[tuple[Sequence[str], Calibration]]
) -> None:
    """A row for each bin that has videos: a calibrated tagger is right as often as it says."""
    rows = [
        [*name, f"{bin_.low:.1f}-{bin_.high:.1f}", f"{bin_.videos:,}",
         f"{bin_.probability:.3f}", f"{bin_.right:.3f}"]
        for name, calibration in found
        for bin_ in calibration.bins
    ]  # fmt: skip
    print("")  # noqa: T201 - two tables are two paragraphs
    print_table((*names, *_RELIABILITY), rows)


def remarks(found: Sequence[ZeroShot]) -> list[str]:
    """What one must know to read the figures."""
    lines = []
    for one in found:
        lines.append(
            f"{one.tagger}: calibration error {one.calibration.error:.3f}; always answering with "
            f"the commonest category would be right {one.ways[-1].shares[0].commonest:.2f} % of "
            "the time"
        )
        if one.unknown:
            lines.append(f"  left out: {plural(one.unknown, 'video')} of categories it has not")
        if one.small:
            few = [f"{category} {count}" for category, count in one.small.items()]
            lines.append(f"  few videos, so chance decides much there: {listed(few)}")
        if one.missing:
            lines.append(f"  {one.missing}")
    if len({one.videos for one in found}) > 1:
        lines.append("the taggers have not scored the same videos: compare them with care")
    return lines
