"""What `reelvec tag --labels` does: scores by new labels of videos that were embedded before, from
what is stored of them. No video is read.

Of a model whose text depends on no video the stored vectors are enough; of others that is what
`enqueue --keep-context` kept. The text tower runs here, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from db import encoders, session
from db.encoders import Encoder, Tagger
from db.errors import UsageError
from db.jobs.selection import Selection
from db.labels import LabelSet
from db.results import labelling
from db.results.labelling import Cost, Counts, Kept
from producer import categories, same_weights
from workers.backbones import registry
from workers.backbones.base import FloatArray, ScoresLater

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Videos read, scored and written at once: what is kept of a video is 12 KB, with a context 0.6 MB.
VIDEOS, VIDEOS_WITH_CONTEXT = 500, 16

Tell = Callable[[int, int], None]
"""Told how many videos of how many are scored."""


@dataclass(frozen=True)
class Labelled:
    """What became of the videos selected: `written` now, `counts.scored` before. `held` were taken
    by a worker meanwhile. `missing` have not enough kept; `cost` is what making one anew takes.
    """

    encoder: Encoder
    tagger: str
    counts: Counts
    written: int
    cost: Cost | None

    @property
    def missing(self) -> int:
        return self.counts.selected - self.counts.scored - self.counts.scorable

    @property
    def held(self) -> int:
        return self.counts.scorable - self.written


def label(
    database: Engine, file: Path, selection: Selection, *, names: Sequence[str], tell: Tell
) -> Iterator[Labelled]:
    """Score with the labels of `file`, by the encoders of these names, else by all that read text.

    Raises `UsageError` (a label file, an encoder, a prompt too long), `RefusedConfigurationError`
    for weights that are not here or not those of the stored vectors.
    """
    labels = categories.label_sets_from_file(file)
    for encoder in _able(database, names):
        with session.transaction(database) as connection:
            tagger_id = encoders.declare_tagger(
                connection, encoder.encoder_id or 0, encoder.name, labels
            )
            tagger = encoders.fetch_taggers(connection, [tagger_id])[tagger_id]
        yield _labelled(database, encoder, tagger, selection, tell)


def _able(database: Engine, names: Sequence[str]) -> list[Encoder]:
    """Bound encoders whose backbones read text."""
    with session.transaction(database) as connection:
        asked = names or encoders.names(connection)
        found = [encoders.known_encoder(connection, name) for name in asked]
    able = [one for one in found if registry.get(one.backbone).has_text and one.dim is not None]
    if names and len(able) < len(found):
        other = next(one for one in found if one not in able)
        why = "has no vectors yet" if other.dim is None else "reads no text"
        raise UsageError(f"--encoder {other.name}: it {why}")
    if not able:
        reads = ", ".join(spec.name for spec in registry.specs() if spec.has_text)
        raise UsageError(
            f"no video has a vector of a model that reads text ({reads}): enqueue --backbone NAME, "
            "then a worker makes them"
        )
    return able


def _labelled(
    database: Engine, encoder: Encoder, tagger: Tagger, selection: Selection, tell: Tell
) -> Labelled:
    needs_context = registry.get(encoder.backbone).context_tokens > 0
    with session.transaction(database) as connection:
        counts = labelling.count(connection, tagger, selection, needs_context=needs_context)
        cost = labelling.cost(connection, encoder)
    written = 0
    if counts.scorable:
        model = cast(ScoresLater, same_weights.load(encoder, doing="tagging by labels"))
        written = _score(
            database, encoder, tagger, selection, model, lambda done: tell(done, counts.scorable)
        )
    return Labelled(encoder, tagger.name, counts, written, cost)


def _score(
    database: Engine,
    encoder: Encoder,
    tagger: Tagger,
    selection: Selection,
    model: ScoresLater,
    tell: Callable[[int], None],
) -> int:
    """Block by block, so that a run that is broken off is gone on with by the next."""
    spec = registry.get(encoder.backbone)
    after = done = written = 0
    while True:
        with session.transaction(database) as connection:
            kept = labelling.block(
                connection,
                encoder,
                tagger,
                selection,
                windows=spec.windows_per_video,
                context_tokens=spec.context_tokens,
                after=after,
                videos=VIDEOS_WITH_CONTEXT if spec.context_tokens else VIDEOS,
            )
        if kept is None:
            return written
        probabilities = _probabilities(model, kept, tagger.label_set)
        with session.transaction(database) as connection:
            written += labelling.write(connection, tagger, kept, probabilities)
        after, done = kept.video_ids[-1], done + len(kept.video_ids)
        tell(done)


def _probabilities(model: ScoresLater, kept: Kept, labels: LabelSet) -> FloatArray:
    """float32 [n, w, K]: the windows of all videos as one batch."""
    videos, windows = kept.vectors.shape[:2]
    flat = kept.vectors.reshape(videos * windows, -1)
    context = None
    if kept.context is not None:
        context = kept.context.reshape(videos * windows, *kept.context.shape[2:])
    return model.scores(flat, context, labels).reshape(videos, windows, -1)
