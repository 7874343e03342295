"""New labels for stored vectors against embedding anew: how long a video takes, and how far its
probabilities are from those of a fresh run.

    python -m bench.labelling [--videos 2000] [--contexts 64] [--weights random-full]

Prints the table of bench/RESULTS.md. A few videos are embedded by the workers' engine, whose
probabilities by the new labels are the fresh ones; what it leaves is stored for as many videos as
are to be tagged by what `reelvec tag --labels` does. Everything on the CPU of this machine, with
random weights, whose probabilities may be flat; so the last lines round vectors of length 1 on
their own, at the scale of a trained model's logits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine as Database
from sqlalchemy import text

from db import encoders, schema, session
from db.encoders import Encoder
from db.jobs.outcome import EncoderRows, Outcome, copy_rows
from db.jobs.selection import Selection
from db.stack.local_stack import LocalStack
from producer import same_weights
from producer.categories import label_sets_from_file, label_sets_shipped
from producer.request import declared_encoder
from producer.results import labelling
from tests.weights import synthetic_frames
from workers.engine.engine import Encoding, Engine, ModelKey

DISTINCT = 2
#: Of a trained SigLIP 2 (exp of its logit_scale) and X-CLIP.
LOGIT_SCALE = 112.0


def bound(database: Database, engine: Engine, backbone: str, weights: str) -> Encoder:
    facts = engine.load(ModelKey(backbone, weights))
    declared = declared_encoder(backbone, weights, "notebook")
    with session.transaction(database) as connection:
        encoders.declare_encoder(connection, declared)
        known = encoders.known_encoder(connection, declared.name)
        encoders.bind(
            connection, known, weights_digest=facts.digest, dim=facts.dim, pooling=facts.pooling
        )
        return encoders.known_encoder(connection, declared.name)


def store(database: Database, encoder: Encoder, made: list[Encoding], videos: int) -> None:
    """Rows of so many videos, each as one of those made."""
    with session.transaction(database) as connection:
        ids = connection.execute(
            text(
                "INSERT INTO reelvec.videos (uri) SELECT :name || i FROM generate_series(1, :n) i"
                " RETURNING video_id"
            ),
            {"name": f"file:///{encoder.backbone}/", "n": videos},
        ).scalars()
        for number, video_id in enumerate(ids.all()):
            one = made[number % len(made)]
            spans = np.zeros((len(one.windows), 2), np.float32)
            rows = EncoderRows(
                encoder.encoder_id or 0, one.pooled, one.windows, spans, one.dtype, one.context
            )
            copy_rows(connection, video_id, uuid4(), Outcome(encoder_rows=(rows,)))


def tag(database: Database, encoder: Encoder, file: Path) -> float:
    """Seconds, the loading of the model included."""
    started = time.perf_counter()
    (done,) = labelling.label(
        database, file, Selection(), names=[encoder.name], tell=lambda _done, _total: None
    )
    assert done.written == done.counts.scorable > 0
    return time.perf_counter() - started


def probabilities(database: Database, encoder: Encoder, count: int) -> npt.NDArray[np.float32]:
    """Of the windows of the first videos, [count, w, K], as they were stored."""
    statement = text(
        "SELECT window_probabilities FROM reelvec.scores JOIN reelvec.taggers USING (tagger_id)"
        " WHERE encoder_id = :id ORDER BY video_id LIMIT :n"
    )
    with session.transaction(database) as connection:
        rows = connection.execute(statement, {"id": encoder.encoder_id, "n": count}).scalars()
        return np.array(rows.all(), np.float32)


def measure(
    database: Database, engine: Engine, file: Path, backbone: str, weights: str, videos: int
) -> None:
    """One line of the table."""
    encoder, labels = bound(database, engine, backbone, weights), label_sets_from_file(file)
    made, started = [], time.perf_counter()
    for number in range(DISTINCT):
        future = engine.submit(
            ModelKey(backbone, weights), synthetic_frames(number), (labels,),
            timeout_seconds=3600, keep_context=True,
        )  # fmt: skip
        made.append(future.result(3600))
    fresh_seconds = (time.perf_counter() - started) / DISTINCT
    store(database, encoder, made, videos)
    started = time.perf_counter()
    same_weights.load(encoder, doing="this bench")
    loading_seconds = time.perf_counter() - started
    seconds = (tag(database, encoder, file) - loading_seconds) / videos
    fresh = np.array([encoding.probabilities[labels.digest] for encoding in made])
    later = probabilities(database, encoder, DISTINCT)
    window, video = (
        np.abs(a - b).max() for a, b in ((later, fresh), (later.mean(1), fresh.mean(1)))
    )
    print(
        f"| {backbone} | {fresh_seconds:.2f} s | {1000 * seconds:.2f} ms of {videos:,} |"
        f" {fresh_seconds / seconds:,.0f} x | {loading_seconds:.0f} s | {window:.1e} | {video:.1e} |",
        flush=True,
    )


def rounded(windows: int, dim: int) -> tuple[float, float]:
    """The largest difference that rounding vectors of length 1 to float16 makes to probabilities of
    a window and of a video, for texts among which a video is undecided.
    """
    chance = np.random.default_rng(0)

    def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    topics = unit(chance.standard_normal((2000, 1, dim)))
    vectors = unit(topics + 0.5 * unit(chance.standard_normal((2000, windows, dim))))
    texts = unit(chance.standard_normal((47, dim)))
    halves = unit(vectors.astype(np.float16).astype(np.float64))
    exact, other = (softmax(LOGIT_SCALE * each @ texts.T) for each in (vectors, halves))
    return float(abs(exact - other).max()), float(abs(exact.mean(1) - other.mean(1)).max())


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=2000)
    options.add_argument("--contexts", type=int, default=64)
    options.add_argument("--weights", default="random-full")
    chosen = options.parse_args()
    engine = Engine(device="cpu", models_dir=None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "labels.csv"
        labels = label_sets_shipped()[0]
        lines = [f'{category},"{prompt}"' for category, prompt in
                 zip(labels.prompt_categories, labels.prompts, strict=True)]  # fmt: skip
        file.write_text("\n".join(["category,prompt", *lines]), encoding="utf-8")
        stack = LocalStack(folder / "stack", disposable=True)
        try:
            url = stack.up().database_url
            schema.upgrade(url)
            print("| | embedding anew | tagging | ratio | loading | window | video |")
            print("|---|---|---|---|---|---|---|")
            with session.connect(url, statement_seconds=float("inf")) as database:
                measure(database, engine, file, "siglip2", chosen.weights, chosen.videos)
                measure(database, engine, file, "x-clip", chosen.weights, chosen.contexts)
        finally:
            stack.down()
            engine.close()
    for windows, dim in ((12, 768), (3, 512)):
        window, video = rounded(windows, dim)
        print(f"{windows} vectors of {dim} rounded: window {window:.1e}, video {video:.1e}")


if __name__ == "__main__":
    main()
