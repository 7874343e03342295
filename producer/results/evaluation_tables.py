"""What `reelvec evaluate` prints for people: chance and interval beside every figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from producer.results.evaluate import Evaluation
from producer.results.figures import KS, Calibration, Share
from producer.results.folds import Judgement, Small
from producer.results.zero_shot import ZeroShot
from producer.tables import print_table
from producer.wording import listed, plural

SHARES = tuple(f"top {k}, % (95 % interval; guessing)" for k in KS)
_RELIABILITY = ("probability", "videos", "mean probability", "right")


def shares_cells(shares: Sequence[Share]) -> list[str]:
    """A cell for each of `KS`: `8.17 (5.45-10.89; 2.13)`; empty where there are no more categories
    than that.
    """
    by_k = {share.k: share for share in shares}
    return [_cell(by_k[k]) if k in by_k else "" for k in KS]


def _cell(share: Share) -> str:
    return f"{share.percent:.2f} ({share.low:.2f}-{share.high:.2f}; {share.chance:.2f})"


def print_tables(found: Evaluation) -> None:
    """All figures, on stdout."""
    if found.zero_shot:
        print_zero_shot(found.zero_shot)
    if found.zero_shot and found.heads:
        _paragraph()
    if found.heads:
        print_heads(found.heads)


def facts(found: Evaluation) -> dict[str, Any]:
    """The same for programs; percents are as exact as the notebook's."""
    heads = {
        "categories": found.categories,
        "heads": [_figures(one) for one in found.heads],
        "left_out": [asdict(one) for one in found.small],
        "saved": found.saved and found.saved[0],
    }
    zero_shot = {"zero_shot": [asdict(one) for one in found.zero_shot]}
    return zero_shot | heads if found.heads else zero_shot


def _figures(judged: Judgement) -> dict[str, Any]:
    """Without the ids of examples, of which there are many."""
    return {name: value for name, value in asdict(judged).items() if name != "examples"}


def remarks(found: Evaluation) -> list[str]:
    """What one must know to read the figures."""
    lines = [*zero_shot_remarks(found.zero_shot), *head_remarks(found.heads, found.small)]
    if found.saved:
        name, new = found.saved
        made = "saved as" if new else "nothing new was learnt; it is still"
        lines.append(f"{made} {name}: reelvec tag --head {name} tags videos with it")
    return lines


def print_zero_shot(found: Sequence[ZeroShot]) -> None:
    rows = [
        [one.tagger, way.by, f"{one.videos:,}", *shares_cells(way.shares)]
        for one in found
        for way in one.ways
    ]
    print_table(("tagger", "by", "videos", *SHARES), rows)
    print_reliability(("tagger",), [((one.tagger,), one.calibration) for one in found])


def head_name(judged: Judgement) -> str:
    """`logistic on vivit + x-clip`."""
    return f"{judged.kind} on {' + '.join(judged.encoders)}"


def print_heads(found: Sequence[Judgement]) -> None:
    rows = [[head_name(one), f"{one.videos:,}", *shares_cells(one.shares)] for one in found]
    print_table(("head", "videos", *SHARES), rows)
    print_reliability(("head",), [((head_name(one),), one.calibration) for one in found])
    _paragraph()
    print_table(
        ("head", "unsure below", "tagged, %", "right of these, %"),
        [
            [head_name(one), sure.unsure_below, f"{sure.tagged:.1f}",
             None if sure.right is None else f"{sure.right:.1f}"]
            for one in found
            for sure in one.sure
        ],
    )  # fmt: skip
    _paragraph()
    columns = ("precision", "recall", "f1-score")
    print_table(
        ("head", "category", *columns, "videos"),
        [
            [head_name(one), category, *(f"{row[c]:.3f}" for c in columns), int(row["support"])]
            for one in found
            for category, row in one.report.items()
            if isinstance(row, dict)
        ],
    )


def head_remarks(found: Sequence[Judgement], small: Sequence[Small]) -> list[str]:
    lines = [
        f"{head_name(one)}: calibration error {one.calibration.error:.3f}; always answering with "
        f"the commonest category would be right {one.shares[0].commonest:.2f} % of the time"
        for one in found
    ]
    lines += [f"  {head_name(one)}: {remark}" for one in found for remark in one.remarks]
    if small:
        few = [f"{one.category} {one.videos}" for one in small]
        lines.append(
            f"left out, as they have fewer videos than folds or are of one group: {listed(few)}"
        )
    return lines


def confusion_rows(found: Evaluation) -> list[tuple[str, str, str, int]]:
    """Tagger or head, category, tag, and how many videos that is; the commonest first, what never
    happened left out.
    """
    rows = [
        (one.tagger, cell.category, cell.tag, cell.videos)
        for one in found.zero_shot
        for cell in one.confusion
    ]
    rows += [
        (head_name(one), category, tag, count)
        for one in found.heads
        for category, counts in zip(found.categories, one.confusion, strict=True)
        for tag, count in zip(found.categories, counts, strict=True)
        if count
    ]
    return sorted(rows, key=lambda row: -row[3])


def _paragraph() -> None:
    """Two tables are two paragraphs."""
    print("")  # noqa: T201


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
    _paragraph()
    print_table((*names, *_RELIABILITY), rows)


def zero_shot_remarks(found: Sequence[ZeroShot]) -> list[str]:
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
