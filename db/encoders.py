"""Embedding spaces and taggers: declared by the producer, bound to real weights by the first worker
that loads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, text

from db.errors import RefusedConfigurationError, UsageError
from db.labels import LabelSet

#: The kind of weights of vectors that were made elsewhere: no worker has them.
IMPORTED = "imported"
#: Serialises declarations: they are rare, tiny, and must agree.
DECLARE_LOCK = 7_120_431_002


@dataclass(frozen=True)
class Encoder:
    """One row of `encoders`. `encoder_id` is None before it is declared; digest, dim and pooling
    before it is bound.
    """

    name: str
    backbone: str
    checkpoint: str
    ref: str
    weights: str
    license: str
    frames_per_window: int
    sampling: str
    preprocessing: str
    encoder_id: int | None = None
    weights_digest: str | None = None
    dim: int | None = None
    pooling: str | None = None

    @property
    def model(self) -> str:
        """The backbone with its kind of weights, as the column says it: what a worker can load or
        not.
        """
        return self.backbone if self.weights == "pretrained" else f"{self.backbone}-{self.weights}"

    @property
    def windows_per_video(self) -> int:
        """All 96 frames of a video, in windows."""
        return 96 // self.frames_per_window


@dataclass(frozen=True)
class Tagger:
    """One row of `taggers` with its label set."""

    tagger_id: int
    name: str
    encoder_id: int
    label_set: LabelSet


_ENCODER_COLUMNS = (
    "encoder AS name, backbone, checkpoint, ref, weights, license, frames_per_window, sampling, "
    "preprocessing, encoder_id, weights_digest, dim, pooling"
)


def declare_encoder(connection: Connection, encoder: Encoder) -> int:
    """Id of this embedding space, made if new. Raises `RefusedConfigurationError` if its name means
    another space.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DECLARE_LOCK})
    facts = {
        "backbone": encoder.backbone,
        "checkpoint": encoder.checkpoint,
        "ref": encoder.ref,
        "weights": encoder.weights,
        "sampling": encoder.sampling,
        "preprocessing": encoder.preprocessing,
    }
    identity = " AND ".join(f"{column} = :{column}" for column in facts)
    found = connection.execute(
        text(f"SELECT encoder_id FROM reelvec.encoders WHERE {identity}"),  # noqa: S608
        facts,
    ).scalar()
    if found is not None:
        return int(found)
    other = connection.execute(
        text("SELECT checkpoint, ref, preprocessing FROM reelvec.encoders WHERE encoder = :name"),
        {"name": encoder.name},
    ).first()
    if other is not None:
        raise RefusedConfigurationError(
            f"encoder {encoder.name!r} in this database is {tuple(other)}, this version makes "
            f"{(encoder.checkpoint, encoder.ref, encoder.preprocessing)}: vectors of the two may "
            "not be mixed. Use the version that made it, or delete that encoder's rows first"
        )
    made = connection.execute(
        text(
            "INSERT INTO reelvec.encoders (encoder, license, frames_per_window, backbone, "
            "checkpoint, ref, weights, sampling, preprocessing) VALUES (:name, :license, "
            ":frames_per_window, :backbone, :checkpoint, :ref, :weights, :sampling, "
            ":preprocessing) RETURNING encoder_id"
        ),
        {
            **facts,
            "name": encoder.name,
            "license": encoder.license,
            "frames_per_window": encoder.frames_per_window,
        },
    ).scalar_one()
    return int(made)


def declare_tagger(
    connection: Connection, encoder_id: int, encoder_name: str, labels: LabelSet
) -> int:
    """Id of `<encoder>/<label set>`, made if new. A label set of the same name with other prompts
    gets its digest as suffix.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DECLARE_LOCK})
    label_set_id, name = _declare_label_set(connection, labels)
    keys = {"encoder_id": encoder_id, "label_set_id": label_set_id}
    found = connection.execute(
        text(
            "SELECT tagger_id FROM reelvec.taggers WHERE encoder_id = :encoder_id AND label_set_id "
            "= :label_set_id"
        ),
        keys,
    ).scalar()
    if found is not None:
        return int(found)
    made = connection.execute(
        text(
            "INSERT INTO reelvec.taggers (tagger, encoder_id, label_set_id, categories)"
            " VALUES (:tagger, :encoder_id, :label_set_id, :categories) RETURNING tagger_id"
        ),
        {**keys, "tagger": f"{encoder_name}/{name}", "categories": list(labels.categories)},
    ).scalar_one()
    return int(made)


def _declare_label_set(connection: Connection, labels: LabelSet) -> tuple[int, str]:
    found = connection.execute(
        text("SELECT label_set_id, label_set FROM reelvec.label_sets WHERE digest = :digest"),
        {"digest": labels.digest},
    ).first()
    if found is not None:
        return int(found[0]), str(found[1])
    taken = connection.execute(
        text("SELECT 1 FROM reelvec.label_sets WHERE label_set = :name"), {"name": labels.name}
    ).first()
    name = labels.name if taken is None else f"{labels.name}-{labels.digest[:8]}"
    made = connection.execute(
        text(
            "INSERT INTO reelvec.label_sets (label_set, digest, prompts, prompt_categories)"
            " VALUES (:name, :digest, :prompts, :categories) RETURNING label_set_id"
        ),
        {
            "name": name,
            "digest": labels.digest,
            "prompts": list(labels.prompts),
            "categories": list(labels.prompt_categories),
        },
    ).scalar_one()
    return int(made), name


def fetch_encoders(connection: Connection, encoder_ids: Iterable[int]) -> dict[int, Encoder]:
    rows = connection.execute(
        text(f"SELECT {_ENCODER_COLUMNS} FROM reelvec.encoders WHERE encoder_id = ANY(:ids)"),  # noqa: S608
        {"ids": list(encoder_ids)},
    )
    return {row.encoder_id: Encoder(**row._mapping) for row in rows}


def policies_of(
    connection: Connection, encoder_ids: Iterable[int], tagger_ids: Iterable[int]
) -> list[str]:
    """The sampling policies of these encoders, and of those that the taggers read."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT sampling FROM reelvec.encoders WHERE encoder_id = ANY(:encoders) OR "
            "encoder_id IN (SELECT encoder_id FROM reelvec.taggers WHERE tagger_id = ANY(:taggers)) "
            "ORDER BY 1"
        ),
        {"encoders": list(encoder_ids), "taggers": list(tagger_ids)},
    )
    return [str(row.sampling) for row in rows]


def fetch_encoder(connection: Connection, name: str) -> Encoder | None:
    """The encoder of this name, if it was ever declared."""
    row = connection.execute(
        text(f"SELECT {_ENCODER_COLUMNS} FROM reelvec.encoders WHERE encoder = :name"),  # noqa: S608
        {"name": name},
    ).first()
    return None if row is None else Encoder(**row._mapping)


def known_encoder(connection: Connection, name: str) -> Encoder:
    """The encoder of this name. Raises `UsageError` with those there are."""
    found = fetch_encoder(connection, name)
    if found is None:
        known = ", ".join(names(connection)) or "none yet: run enqueue"
        raise UsageError(f"there is no encoder {name!r}; there are {known}")
    return found


def with_vectors(connection: Connection) -> list[Encoder]:
    """The encoders of which any video has a vector; those with a meaning first."""
    rows = connection.execute(
        text(
            f"SELECT {_ENCODER_COLUMNS} FROM reelvec.encoders e WHERE dim IS NOT NULL AND EXISTS "  # noqa: S608
            "(SELECT FROM reelvec.video_embeddings m WHERE m.encoder_id = e.encoder_id) ORDER BY "
            "starts_with(weights, 'random'), encoder_id"
        )
    )
    return [Encoder(**row._mapping) for row in rows]


def names(connection: Connection) -> list[str]:
    """Of all encoders that were ever declared."""
    return list(
        connection.execute(text("SELECT encoder FROM reelvec.encoders ORDER BY encoder")).scalars()
    )


def fetch_taggers(connection: Connection, tagger_ids: Iterable[int]) -> dict[int, Tagger]:
    rows = connection.execute(
        text(
            "SELECT tagger_id, tagger, encoder_id, label_set, prompts, prompt_categories FROM "
            "reelvec.taggers JOIN reelvec.label_sets USING (label_set_id) WHERE tagger_id = "
            "ANY(:ids)"
        ),
        {"ids": list(tagger_ids)},
    )
    return {
        row.tagger_id: Tagger(
            row.tagger_id,
            row.tagger,
            row.encoder_id,
            LabelSet(row.label_set, tuple(row.prompts), tuple(row.prompt_categories)),
        )
        for row in rows
    }


def wanted_encoders(connection: Connection) -> list[Encoder]:
    """Encoders that unfinished jobs still owe: what a worker loads before it is ready."""
    rows = connection.execute(
        text(
            f"SELECT {_ENCODER_COLUMNS} FROM reelvec.encoders e WHERE EXISTS (SELECT FROM reelvec.jobs j"  # noqa: S608
            " WHERE j.state IN ('pending', 'queued', 'running') AND e.encoder_id = "
            "ANY(coalesce(j.owes, j.encoders))) ORDER BY encoder_id"
        )
    )
    return [Encoder(**row._mapping) for row in rows]


def bind(
    connection: Connection,
    encoder: Encoder,
    *,
    weights_digest: str,
    dim: int,
    pooling: str,
    license: str | None = None,
    origin: str | None = None,
) -> None:
    """Write down what the encoder's weights really are, or refuse ours if another worker bound
    different ones.

    `license` is that of these numbers; None: it stays as declared. `origin` says where they come
    from; who has the same ones adds it where nobody has yet. Makes the encoder's view on the first
    binding. Raises `RefusedConfigurationError` naming both digests.
    """
    ours = {"weights_digest": weights_digest, "dim": dim, "pooling": pooling}
    row = connection.execute(
        text(
            "UPDATE reelvec.encoders SET weights_digest = :weights_digest, dim = :dim, pooling = "
            ":pooling, license = coalesce(:license, license), origin = :origin WHERE encoder_id = "
            ":encoder_id AND weights_digest IS NULL RETURNING encoder_id"
        ),
        {**ours, "encoder_id": encoder.encoder_id, "license": license, "origin": origin},
    ).first()
    if row is not None:
        _make_view(connection, encoder)
        return
    bound = connection.execute(
        text("SELECT weights_digest, dim, pooling FROM reelvec.encoders WHERE encoder_id = :id"),
        {"id": encoder.encoder_id},
    ).one()
    if dict(bound._mapping) != ours:
        raise RefusedConfigurationError(
            f"encoder {encoder.name!r} was bound to weights {bound.weights_digest} (dim "
            f"{bound.dim}, {bound.pooling}); this worker has {weights_digest} (dim {dim}, "
            f"{pooling}). Their vectors may not be mixed: give this worker the bound weights: copy "
            "models.lock of a machine that has them into REELVEC_MODELS_DIR and run `reelvec "
            "models fetch`; `reelvec models list` shows digests"
        )
    connection.execute(
        text(
            "UPDATE reelvec.encoders SET origin = :origin WHERE encoder_id = :encoder_id AND origin "
            "IS NULL AND :origin IS NOT NULL"
        ),
        {"encoder_id": encoder.encoder_id, "origin": origin},
    )


def declare_imported(connection: Connection, name: str, dim: int) -> Encoder:
    """The encoder of vectors that were made elsewhere, made and bound if new: nobody knows which
    weights made them, and no worker can. Raises `UsageError` for a name that means something else.
    """
    known = fetch_encoder(connection, name)
    if known is None:
        encoder = Encoder(
            name,
            backbone=name,
            checkpoint="none",
            ref="none",
            weights=IMPORTED,
            license="unknown",
            frames_per_window=96,
            sampling="unknown",
            preprocessing="unknown",
        )
        made = replace(encoder, encoder_id=declare_encoder(connection, encoder))
        bind(
            connection,
            made,
            weights_digest=IMPORTED,
            dim=dim,
            pooling=IMPORTED,
            origin="made elsewhere, and brought by reelvec db import",
        )
        known = replace(made, dim=dim)
    if known.weights != IMPORTED:
        raise UsageError(f"{name} is computed here: give another name with --as")
    if known.dim != dim:
        raise UsageError(
            f"vectors of {name} have {known.dim} numbers, these have {dim}: give another name with "
            "--as"
        )
    return known


def view_name(encoder_name: str) -> str:
    return encoder_name.replace("-", "_")


def _make_view(connection: Connection, encoder: Encoder) -> None:
    """`SELECT ... FROM vivit ORDER BY embedding <=> ...` uses the index only with a cast: 1.3 ms
    against 37-45 ms.

    The database's own function makes it: a worker's role may make nothing.
    """
    view = view_name(encoder.name)
    taken = connection.execute(
        text("SELECT to_regclass(:view)"), {"view": f'reelvec."{view}"'}
    ).scalar()
    if taken is not None:
        raise RefusedConfigurationError(
            f"reelvec.{view} exists already and is not encoder {encoder.name!r}'s view; rename it"
        )
    connection.execute(text("SELECT reelvec.make_encoder_view(:name)"), {"name": encoder.name})
