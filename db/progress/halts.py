"""What takes no videos although they wait: closed places, workers that alone fail at one, paused
backbones.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

#: An HTTP catalogue has 10^5 hosts: the places that closed first are named, all of them are
#: counted.
NAMED_PLACES = 50


@dataclass(frozen=True)
class ClosedPlace:
    """A bucket or host that failed every worker that tried it; one probe every 10 s looks whether
    it is mended.
    """

    place: str
    closed_seconds: float
    error_code: str | None
    error: str | None


@dataclass(frozen=True)
class RefusingWorker:
    """A live worker that fails at a place where others do not, and takes no videos of it."""

    host: str
    name: str | None
    pid: int
    place: str
    failing_seconds: float
    error_code: str | None
    error: str | None


@dataclass(frozen=True)
class PausedBackbone:
    backbone: str
    reason: str
    paused_seconds: float


@dataclass(frozen=True)
class Halts:
    """`closed_places` counts them all, `places` names those that closed first."""

    closed_places: int = 0
    places: tuple[ClosedPlace, ...] = ()
    workers: tuple[RefusingWorker, ...] = ()
    backbones: tuple[PausedBackbone, ...] = ()


_PLACES = text("""
SELECT place, extract(epoch FROM now() - closed_at)::double precision AS closed_seconds, error_code, error
FROM reelvec.places WHERE closed_at IS NOT NULL ORDER BY closed_at, place LIMIT :named
""")
_WORKERS = text("""
SELECT w.host, w.name, w.pid, p.place, extract(epoch FROM now() - f.failing_since)::double precision AS failing_seconds,
  f.error_code, f.error
FROM reelvec.place_workers f JOIN reelvec.workers w USING (worker_id) JOIN reelvec.places p USING (place_id)
WHERE f.failing_since IS NOT NULL AND p.closed_at IS NULL AND w.beat_at > now() - make_interval(secs => :stale)
ORDER BY f.failing_since, w.host, w.pid, p.place
""")
_BACKBONES = text("""
SELECT backbone, reason, extract(epoch FROM now() - at)::double precision AS paused_seconds
FROM reelvec.paused_backbones WHERE paused ORDER BY backbone
""")


def read(connection: Connection, *, stale_seconds: float) -> Halts:
    """What is closed, refused and paused now."""
    return Halts(
        closed_places=int(
            connection.execute(
                text("SELECT count(*) FROM reelvec.places WHERE closed_at IS NOT NULL")
            ).scalar_one()
        ),
        places=tuple(
            ClosedPlace(**row._mapping)
            for row in connection.execute(_PLACES, {"named": NAMED_PLACES})
        ),
        workers=tuple(
            RefusingWorker(**row._mapping)
            for row in connection.execute(_WORKERS, {"stale": stale_seconds})
        ),
        backbones=tuple(PausedBackbone(**row._mapping) for row in connection.execute(_BACKBONES)),
    )
