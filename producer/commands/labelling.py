"""`reelvec tag --labels`: what it does and says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from producer.desk import open_database, progress, say
from producer.selectors import Selectors, refuse_unknown_categories
from producer.tables import print_json
from producer.wording import duration, plural

if TYPE_CHECKING:
    from producer.results.labelling import Labelled


def tag_by_labels(
    labels: Path, encoders: Sequence[str], chosen: Selectors, *, as_json: bool
) -> None:
    """Score by the labels of a file whatever is stored, and say what could not be. Raises as
    `producer.results.labelling.label` does.
    """
    from db import session
    from producer.results import labelling as desk

    selection = chosen.parsed()
    with open_database(statement_seconds=float("inf")) as database:
        with session.transaction(database) as connection:
            refuse_unknown_categories(connection, chosen.categories)
        with progress() as tell:
            done = list(desk.label(database, labels, selection, names=encoders, tell=tell))
    for one in done:
        say(_summary(one))
        if one.missing:
            say(_missing(one, labels))
        if as_json:
            print_json(
                {
                    "tagger": one.tagger,
                    "tagged": one.written,
                    "tagged_before": one.counts.scored,
                    "with_a_worker": one.held,
                    "not_tagged": one.missing,
                    "device_seconds_each": one.cost and one.cost.device_seconds,
                    "decode_seconds_each": one.cost and one.cost.decode_seconds,
                }
            )


def _summary(one: Labelled) -> str:
    parts = [f"{one.tagger}: {plural(one.written, 'video')} tagged"]
    if one.counts.scored:
        parts.append(f"{one.counts.scored:,} had its tags already")
    if one.held:
        parts.append(f"{one.held:,} are with a worker: run this again")
    return ", ".join(parts)


def _missing(one: Labelled, labels: Path) -> str:
    """How many could not be tagged, why, and what it would take."""
    from workers.backbones import registry

    encoder = one.encoder
    kept = "context" if registry.get(encoder.backbone).context_tokens else "vector of a window"
    cost = ""
    if one.cost is not None:
        decoding, device = (
            duration((one.missing - one.counts.failed) * seconds)
            for seconds in (one.cost.decode_seconds, one.cost.device_seconds)
        )
        cost = (
            f", about {decoding} of a core for decoding and {device} of a device, by the mean of "
            f"{plural(one.cost.videos, 'video')}"
        )
    line = f"{one.tagger}: {plural(one.missing, 'video')} not tagged: no {kept} is kept of them"
    if failed := one.counts.failed:
        line += f", and {failed:,} of them failed (reelvec status --failed says why)"
    if failed == one.missing:
        return line
    others = "the others" if failed else "them"
    return f"{line}. `{_enqueue(one, labels)}` reads {others} again{cost}"


def _enqueue(one: Labelled, labels: Path) -> str:
    """The command that has a worker tag them."""
    from workers.sampling import policies

    encoder = one.encoder
    parts = [f"enqueue --backbone {encoder.backbone} --labels {labels}"]
    parts += [f"--weights {encoder.weights}"] if encoder.weights != "pretrained" else []
    parts += [f"--sampling {encoder.sampling}"] if encoder.sampling != policies.DEFAULT else []
    return " ".join(parts)
