"""Who can make what: which encoders a worker can load, which of them all can, some, or nobody. And
the queue that follows.

every live worker can make it    `reelvec`
some can                         `reelvec.<encoder>`, which only those consume
nobody can                       none: the video waits, and `reelvec status` says for which weights

Sampler nodes make nothing of their own: they take videos of every queue, and what others can make
decides. Frames go the same ways, by queues of their own (`db.jobs.stages`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Ability:
    """What one worker can make: the encoders of `models`, but for the ids `refused`, whose weights
    are not its own.

    A model is a backbone with a kind of weights (`encoders.model`). None: whatever there is, as
    older versions could.
    """

    models: tuple[str, ...] | None = None
    refused: tuple[int, ...] = ()

    @property
    def facts(self) -> dict[str, list[str] | list[int] | None]:
        """Parameters of `MAKES`."""
        return {
            "models": None if self.models is None else list(self.models),
            "refused": list(self.refused),
        }


#: Ids of the encoders that can be made by an `Ability` and are not paused.
MAKES = """array(SELECT e.encoder_id FROM reelvec.encoders e
  WHERE (CAST(:models AS text[]) IS NULL OR e.model = ANY(CAST(:models AS text[])))
    AND e.encoder_id <> ALL(CAST(:refused AS smallint[]))
    AND NOT EXISTS (SELECT FROM reelvec.paused_backbones p WHERE p.backbone = e.backbone AND p.paused))"""


@dataclass(frozen=True)
class Makers:
    """How many live workers can make an encoder, and how many videos those work on at once; and how
    many packs of frames, `pack_slots`.
    """

    encoder_id: int
    encoder: str
    backbone: str
    workers: int
    in_flight: int
    pack_slots: int = 0
    paused: bool = False


@dataclass(frozen=True)
class Route:
    """Where a video goes: the queue of a `rare` encoder, by its id, or, if there is no room, the
    `common` one.
    """

    rare: int | None = None
    common: bool = False


@dataclass(frozen=True)
class Abilities:
    """Of all live workers that are not draining, `workers` of them. Without any, nobody knows what
    the next one can.

    `in_flight` videos are worked on at once, and `pack_slots` packs of frames; `sampling` videos by
    sampler nodes besides.
    """

    workers: int
    in_flight: int
    encoders: tuple[Makers, ...] = ()
    pack_slots: int = 0
    sampling: int = 0

    @property
    def makeable(self) -> list[int]:
        """Encoders that somebody can make and that are not paused, by id."""
        return [
            makers.encoder_id for makers in self.encoders if makers.workers and not makers.paused
        ]

    def rare(self) -> list[Makers]:
        """Encoders that some can make and others cannot."""
        return [makers for makers in self.encoders if 0 < makers.workers < self.workers]

    def lacking(self) -> list[Makers]:
        """Encoders that no live worker can make."""
        return [makers for makers in self.encoders if self.workers and not makers.workers]

    def route(self, owed: Collection[int]) -> Route:
        """For a video that owes these encoders: the rarest of them that can be made, and is not
        paused, chooses.

        A video that owes nothing as far as is known goes to anybody: its claim finds out.
        """
        able = [
            makers for makers in self.encoders if makers.encoder_id in owed and not makers.paused
        ]
        if not owed or not self.workers:
            return Route(common=not owed or bool(able))
        common = any(makers.workers == self.workers for makers in able)
        rare = [makers for makers in able if 0 < makers.workers < self.workers]
        if not rare:
            return Route(common=common)
        return Route(
            min(rare, key=lambda makers: (makers.in_flight, makers.encoder_id)).encoder_id, common
        )


_LIVE = (
    "FROM reelvec.workers WHERE NOT draining AND beat_at > now() - make_interval(secs => :stale)"
)
_FLEET = text(f"""
SELECT count(*) FILTER (WHERE stage = 'video') AS workers,
  coalesce(sum(in_flight) FILTER (WHERE stage = 'video'), 0) AS in_flight,
  coalesce(sum(pack_slots), 0) AS pack_slots, coalesce(sum(in_flight) FILTER (WHERE stage = 'sample'), 0) AS sampling
{_LIVE}
""")
_MAKERS = text(f"""
SELECT e.encoder_id, e.encoder, e.backbone, count(w.worker_id) AS workers, coalesce(sum(w.in_flight), 0) AS in_flight,
  coalesce(sum(w.pack_slots), 0) AS pack_slots,
  EXISTS (SELECT FROM reelvec.paused_backbones p WHERE p.backbone = e.backbone AND p.paused) AS paused
FROM reelvec.encoders e LEFT JOIN (SELECT * {_LIVE} AND stage = 'video') w
  ON (w.models IS NULL OR e.model = ANY(w.models)) AND e.encoder_id <> ALL(coalesce(w.refused_encoders, '{{}}'))
GROUP BY e.encoder_id ORDER BY e.encoder_id
""")  # noqa: S608


def read(connection: Connection, *, stale_seconds: float) -> Abilities:
    """What the live workers can make, as they said with their last beats."""
    fleet = connection.execute(_FLEET, {"stale": stale_seconds}).one()
    rows = connection.execute(_MAKERS, {"stale": stale_seconds})
    return Abilities(
        fleet.workers,
        int(fleet.in_flight),
        tuple(Makers(**row._mapping) for row in rows),
        int(fleet.pack_slots),
        int(fleet.sampling),
    )


def of_worker(connection: Connection, ability: Ability) -> dict[int, str]:
    """Id and name of each declared encoder that this worker can make, paused or not."""
    rows = connection.execute(
        text(
            "SELECT encoder_id, encoder FROM reelvec.encoders WHERE encoder_id <> "
            "ALL(CAST(:refused AS smallint[])) AND (CAST(:models AS text[]) IS NULL OR model = "
            "ANY(CAST(:models AS text[]))) ORDER BY encoder_id"
        ),
        ability.facts,
    )
    return {int(encoder_id): str(encoder) for encoder_id, encoder in rows}
