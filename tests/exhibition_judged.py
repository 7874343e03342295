"""What the page Judge has to show of the exhibition: a head, copies of videos, and fifty categories
with long names.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from sqlalchemy import Engine, text

from db import encoders, session
from db.labels import LabelSet
from db.results import heads
from db.results.heads import Head
from db.results.linear import Linear, softmax
from db.results.stacked import Labelled
from producer.results import figures, folds
from tests.ledgering import execute

#: Copies and what they are copies of.
COPIES = {22: 4, 40: 4, 31: 13}
#: Some are smaller or larger than the original.
HEIGHTS_PX = {22: 360, 31: 1080}
FIFTY = tuple(
    f"{first} {second}"
    for first in ("Познавательные", "Развлекательные", "Образовательные", "Любительские", "Архивные")
    for second in (
        "телепередачи", "мультфильмы", "путешествия", "видеоблоги", "интервью", "автомобили",
        "садоводство и огород", "сельскохозяйственные животные", "самообразование", "кино",
    )
)  # fmt: skip


def copy_some(engine: Engine) -> None:
    """Vectors and pictures of some videos are those of others."""
    for copy, original in COPIES.items():
        execute(
            engine,
            "UPDATE reelvec.video_embeddings m SET embedding = o.embedding FROM reelvec.video_embeddings o"
            " WHERE m.video_id = :copy AND o.video_id = :original AND o.encoder_id = m.encoder_id",
            copy=copy,
            original=original,
        )
        execute(
            engine,
            "UPDATE reelvec.strips s SET strip = o.strip FROM reelvec.strips o"
            " WHERE s.video_id = :copy AND o.video_id = :original",
            copy=copy,
            original=original,
        )
    for video_id, height_px in HEIGHTS_PX.items():
        execute(
            engine,
            "UPDATE reelvec.videos SET height_px = :height_px, width_px = :height_px * 16 / 9"
            " WHERE video_id = :video_id",
            video_id=video_id,
            height_px=height_px,
        )


def learn(engine: Engine) -> str:
    """A head as `reelvec evaluate --save` keeps it, of answers that are made up; its name among
    the taggers.
    """
    with session.transaction(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT video_id, category FROM reelvec.videos JOIN reelvec.jobs USING (video_id)"
                " WHERE state = 'done' AND category IS NOT NULL ORDER BY video_id"
            )
        ).all()
        encoder = encoders.known_encoder(connection, "vivit")
    names = tuple(sorted({row.category for row in rows}))
    truth = np.array([names.index(row.category) for row in rows])
    found = Labelled(names, np.array([row.video_id for row in rows]), truth, np.arange(len(rows)))
    chance = np.random.default_rng(7)
    logits = chance.normal(0, 1, (len(rows), len(names))) + 2 * np.eye(len(names))[truth]
    probabilities = softmax(logits.astype(np.float32))
    given, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (truth, given), 1)
    places = figures.ranks(probabilities, truth)
    shares = figures.shares(places, truth, found.groups, len(names))
    judgement = {
        "shares": [asdict(one) for one in shares],
        "calibration": asdict(figures.calibration(confidence, given == truth)),
        "confusion": confusion.tolist(),
        "examples": folds._examples(found, given, confidence),
    }
    dim = encoder.dim or 0
    linear = Linear(
        *(np.full(shape, 1, np.float32) for shape in (dim, dim, (len(names), dim), len(names)))
    )
    head = Head("genres", "logistic", (encoder,), names, linear, 1.0, len(rows), judgement)
    with session.transaction(engine) as connection:
        return heads.save(connection, head, who="somebody@desk")[0]


def add_fifty(engine: Engine, videos: int = 1500) -> None:
    """Videos of fifty categories, and what a tagger says of them, which is often that of the one
    before.
    """
    with session.transaction(engine) as connection:
        encoder = encoders.known_encoder(connection, "x-clip")
        labels = LabelSet("по-русски", FIFTY, FIFTY)
        tagger = encoders.declare_tagger(connection, encoder.encoder_id or 0, "x-clip", labels)
        connection.execute(
            text("""
WITH made AS (
  INSERT INTO reelvec.videos (uri, category)
  SELECT 's3://fifty/' || i || '.mp4', (CAST(:names AS text[]))[1 + i % 50] FROM generate_series(1, :videos) i
  RETURNING video_id, category, CAST(substring(uri FROM '([0-9]+).mp4') AS int) / 50 AS turn
), said AS (
  SELECT video_id, 1 + (array_position(CAST(:names AS text[]), category) + (ARRAY[-1, 0, 0, 10, 0, 0, -2, 0, 24, 0])[1 + turn % 10]
    * (turn * 7 + array_position(CAST(:names AS text[]), category)) % 3 + 99) % 50 AS place FROM made
)
INSERT INTO reelvec.scores (tagger_id, video_id, probabilities, window_probabilities, tag, probability)
SELECT :tagger, video_id, p, ARRAY[p, p, p], (CAST(:names AS text[]))[place], 0.3 FROM said CROSS JOIN LATERAL (
  SELECT array_agg(CASE WHEN n = place THEN 0.3 ELSE 0.7 / 49 END ORDER BY n)::real[] AS p FROM generate_series(1, 50) n) q
"""),
            {"names": list(FIFTY), "videos": videos, "tagger": tagger},
        )
