"""Trained heads as rows: arrays and words, versioned by name. A head is a tagger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from db.encoders import DECLARE_LOCK, Encoder, fetch_encoders
from db.errors import RefusedConfigurationError, UsageError
from db.results import arrays
from db.results.linear import Floats, Linear, softmax, unit


@dataclass(frozen=True)
class Head:
    """What makes probabilities of `categories` [K] from the vectors of `encoders`. `judgement` is
    what was found of its kind when it was made.
    """

    name: str
    kind: str
    encoders: tuple[Encoder, ...]
    categories: tuple[str, ...]
    linear: Linear
    temperature: float
    videos: int
    judgement: Mapping[str, Any]

    @property
    def dims(self) -> list[int]:
        return [encoder.dim or 0 for encoder in self.encoders]

    def probabilities(self, vectors: Floats) -> Floats:
        """float32 [n, K] of stored vectors float32 [n, sum of dims], which are brought to length 1
        in place.
        """
        unit(vectors, self.dims)
        return softmax(self.linear.logits(vectors) / np.float32(self.temperature))

    def digest(self) -> str:
        """SHA-256 of all that decides what it says."""
        spaces = [(encoder.name, encoder.weights_digest) for encoder in self.encoders]
        facts = [self.kind, spaces, self.categories, self.temperature]
        digest = hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode())
        for array in _arrays(self.linear).values():
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """A head with its row."""

    head: Head
    tagger_id: int
    version: int
    unsure_below: float

    @property
    def tagger(self) -> str:
        """Its name among the taggers."""
        return f"{self.head.name}@{self.version}"


def _arrays(linear: Linear) -> dict[str, Floats]:
    return {
        "mean": linear.mean,
        "scale": linear.scale,
        "coefficients": linear.coefficients,
        "intercept": linear.intercept,
    }


def save(connection: Connection, head: Head, *, who: str) -> tuple[str, bool]:
    """`NAME@VERSION` of this head, made if none of its name says the same; and whether it was. The
    judgement of one that is there is replaced.

    Raises `UsageError` for a name that cannot be a head's.
    """
    if not head.name or set("@/ ") & set(head.name):
        raise UsageError(f"a head cannot be called {head.name!r}: no @, / or blank")
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DECLARE_LOCK})
    digest = head.digest()
    found = connection.execute(
        text("SELECT version, digest FROM reelvec.heads WHERE head = :head ORDER BY version"),
        {"head": head.name},
    ).all()
    for version, known in found:
        if known == digest:
            connection.execute(_JUDGED_ANEW, {"judgement": _json(head), "digest": digest})
            return f"{head.name}@{version}", False
    version = max((int(row.version) for row in found), default=0) + 1
    tagger = f"{head.name}@{version}"
    _insert(connection, head, tagger, version, digest, who)
    return tagger, True


_TAGGER = text("""
INSERT INTO reelvec.taggers (tagger, encoder_id, categories) VALUES (:tagger, :encoder_id, :categories)
RETURNING tagger_id
""")
_HEAD = text("""
INSERT INTO reelvec.heads (tagger_id, head, version, kind, encoder_ids, weights_digests, mean, scale, coefficients,
  intercept, temperature, videos, judgement, digest, made_by)
VALUES (:tagger_id, :head, :version, :kind, CAST(:encoder_ids AS smallint[]), :weights_digests, CAST(:mean AS real[]),
  CAST(:scale AS real[]), CAST(:coefficients AS real[]), CAST(:intercept AS real[]), :temperature, :videos,
  CAST(:judgement AS jsonb), :digest, :who)
""")


_JUDGED_ANEW = text("""
UPDATE reelvec.heads SET judgement = CAST(:judgement AS jsonb) WHERE digest = :digest
""")


def _insert(
    connection: Connection, head: Head, tagger: str, version: int, digest: str, who: str
) -> None:
    # tags of random weights are shown nowhere: one such encoder is enough
    first = next((e for e in head.encoders if e.weights != "pretrained"), head.encoders[0])
    tagger_id = connection.execute(
        _TAGGER,
        {
            "tagger": tagger,
            "encoder_id": first.encoder_id,
            "categories": list(head.categories),
        },
    ).scalar_one()
    connection.execute(
        _HEAD,
        {
            "tagger_id": tagger_id,
            "head": head.name,
            "version": version,
            "kind": head.kind,
            "encoder_ids": [encoder.encoder_id for encoder in head.encoders],
            "weights_digests": [encoder.weights_digest for encoder in head.encoders],
            **{name: _literal(array) for name, array in _arrays(head.linear).items()},
            "temperature": head.temperature,
            "videos": head.videos,
            "judgement": _json(head),
            "digest": digest,
            "who": who,
        },
    )


def _json(head: Head) -> str:
    return json.dumps(head.judgement, ensure_ascii=False)


def _literal(array: Floats) -> str:
    """As Postgres reads a `real[]`: every digit that a float32 has."""
    return str(array.tolist()).replace("[", "{").replace("]", "}")


_ROW = text("""
SELECT h.tagger_id, h.head, h.version, h.kind, h.encoder_ids, h.weights_digests, h.temperature, h.unsure_below, h.videos,
  h.judgement, t.categories
FROM reelvec.heads h JOIN reelvec.taggers t USING (tagger_id)
WHERE h.head = :head AND (CAST(:version AS int) IS NULL OR h.version = :version) ORDER BY h.version DESC LIMIT 1
""")


def fetch(connection: Connection, name: str) -> Stored:
    """The head `NAME@VERSION`, or the newest of `NAME`.

    Raises `UsageError` for one that is not there, `RefusedConfigurationError` where an encoder is
    gone, or was made anew with other weights.
    """
    plain, _, version = name.partition("@")
    asked = int(version) if version.isdecimal() else None
    facts = {"head": plain, "version": asked}
    row = None if version and asked is None else connection.execute(_ROW, facts).first()
    if row is None:
        known = ", ".join(names(connection)) or "none yet: reelvec evaluate --save makes one"
        raise UsageError(f"there is no head {name!r}; there are {known}")
    found = fetch_encoders(connection, row.encoder_ids)
    read = [found.get(encoder_id) for encoder_id in row.encoder_ids]
    encoders = [encoder for encoder in read if encoder is not None]
    if [encoder.weights_digest for encoder in encoders] != list(row.weights_digests):
        raise RefusedConfigurationError(
            f"head {row.head}@{row.version} has learnt from vectors of other weights than those "
            "that are here now: train it anew with reelvec evaluate --save"
        )
    head = Head(
        row.head,
        row.kind,
        tuple(encoders),
        tuple(row.categories),
        _linear(connection, row.tagger_id, len(row.categories), encoders),
        row.temperature,
        row.videos,
        row.judgement,
    )
    return Stored(head, row.tagger_id, row.version, row.unsure_below)


def _linear(
    connection: Connection, tagger_id: int, categories: int, encoders: Sequence[Encoder]
) -> Linear:
    dim = sum(encoder.dim or 0 for encoder in encoders)
    shapes = {
        "mean": (dim,), "scale": (dim,), "coefficients": (categories, dim), "intercept": (categories,)
    }  # fmt: skip
    row = arrays.read(
        connection,
        f"SELECT {', '.join(shapes)} FROM reelvec.heads WHERE tagger_id = {tagger_id}",  # noqa: S608
        [(name, arrays.real_array(*shape)) for name, shape in shapes.items()],
    )
    return Linear(**{name: arrays.numbers(row[name])[0] for name in shapes})


@dataclass(frozen=True)
class Kept:
    """The newest version of a head as it was judged: its name among the taggers, by which vectors
    of `encoders` it goes, and a `judgement` without the ids of examples.
    """

    tagger: str
    kind: str
    encoders: tuple[str, ...]
    categories: tuple[str, ...]
    videos: int
    judgement: Mapping[str, Any]


_KEPT = text("""
SELECT DISTINCT ON (h.head) t.tagger, h.kind, ARRAY(
    SELECT e.encoder FROM unnest(h.encoder_ids) WITH ORDINALITY AS u (encoder_id, place)
    JOIN reelvec.encoders e USING (encoder_id) ORDER BY u.place) AS encoders,
  t.categories, h.videos, h.judgement - 'examples' AS judgement
FROM reelvec.heads h JOIN reelvec.taggers t USING (tagger_id) JOIN reelvec.encoders e USING (encoder_id)
WHERE e.weights = 'pretrained' ORDER BY h.head, h.version DESC
""")


def kept(connection: Connection) -> list[Kept]:
    """Of every name the newest; none that has learnt from random weights, as in the view tags."""
    return [
        Kept(
            **{
                **row._mapping,
                "encoders": tuple(row.encoders),
                "categories": tuple(row.categories),
            }
        )
        for row in connection.execute(_KEPT)
    ]


def names(connection: Connection) -> list[str]:
    """`NAME@VERSION` of all heads."""
    return list(
        connection.execute(
            text("SELECT head || '@' || version FROM reelvec.heads ORDER BY head, version")
        ).scalars()
    )
