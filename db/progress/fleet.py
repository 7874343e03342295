"""Who works: the workers that beat, what each is made of, how it fares and how busy its device is,
and who went missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class FleetWorker:
    """One process as it said with its last beat, `beat_seconds` ago. `name` is its node's, such as
    `gpu0`.

    `cores` is its share of the machine's. `queued_windows` wait for its device, `running_windows`
    are being computed there. `videos_failed` counts attempts that met an error, `videos_per_second`
    is what it got done over the last 10 minutes. `models` are those it can load, `refused` are
    encoders bound to other weights than its own. `stage`: sample for one that only samples,
    `pack_slots` how many packs of frames it takes at once besides. None: nothing yet, or a version
    that did not say.
    """

    host: str
    pid: int
    device: str
    draining: bool
    in_flight: int
    samplers: int
    cores: float
    videos_per_batch: int
    beat_seconds: float = 0.0
    queued_windows: int | None = None
    running_windows: int | None = None
    name: str | None = None
    claimed_seconds: float | None = None
    videos_done: int | None = None
    videos_failed: int | None = None
    videos_per_second: float | None = None
    last_error: str | None = None
    last_error_seconds: float | None = None
    models: tuple[str, ...] | None = None
    version: str = ""
    stage: str = "video"
    pack_slots: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fleet:
    """`alive` workers have beaten within the stale time, `draining` of them take no more videos.

    `in_flight` is how many videos the others work on at once, sampled ones among them, `gpus` how
    many of those have a GPU. `last_beat_seconds` is the youngest beat's age. `workers` are those
    alive, the draining ones among them; `stale` ones have not said goodbye and do not beat.
    """

    alive: int
    draining: int
    in_flight: int
    gpus: int
    last_beat_seconds: float | None
    paused: bool = False
    pause_reason: str | None = None
    stale: tuple[FleetWorker, ...] = ()
    workers: tuple[FleetWorker, ...] = ()

    @property
    def sampler_nodes(self) -> tuple[FleetWorker, ...]:
        """Those that take videos and only sample them."""
        return tuple(w for w in self.workers if w.stage == "sample" and not w.draining)

    @property
    def last_claim_seconds(self) -> float | None:
        """How long ago any of them claimed a video, as they said with their last beats."""
        claims = [worker.claimed_seconds for worker in (*self.workers, *self.stale)]
        return min((seconds for seconds in claims if seconds is not None), default=None)


# Workers of revision 0002 say neither: they have 2 videos in flight a sampler and one more, and
# leave one core free.
_WORKERS = text("""
SELECT host, pid, device, draining, in_flight, coalesce(samplers, (in_flight - 1) / 2) AS samplers,
  coalesce(cores, (in_flight + 1) / 2)::double precision AS cores, coalesce(videos_per_batch, 1) AS videos_per_batch,
  extract(epoch FROM now() - beat_at)::double precision AS beat_seconds, queued_windows, running_windows, name,
  extract(epoch FROM now() - claimed_at)::double precision AS claimed_seconds, videos_done, videos_failed,
  videos_per_second::double precision AS videos_per_second, last_error,
  extract(epoch FROM now() - last_error_at)::double precision AS last_error_seconds, models, version,
  stage, coalesce(pack_slots, 0) AS pack_slots,
  array(SELECT encoder FROM reelvec.encoders WHERE encoder_id = ANY(refused_encoders) ORDER BY 1) AS refused
FROM reelvec.workers ORDER BY beat_at DESC
""")


def read(connection: Connection, *, stale_seconds: float) -> Fleet:
    """Who works. Workers that ended cleanly are not listed; those that did not are stale for a
    day.
    """
    found = [
        FleetWorker(
            **{
                **row._mapping,
                "models": None if row.models is None else tuple(row.models),
                "refused": tuple(row.refused),
            }
        )
        for row in connection.execute(_WORKERS)
    ]
    pause = connection.execute(
        text("SELECT reason FROM reelvec.control WHERE paused LIMIT 1")
    ).first()
    alive = tuple(worker for worker in found if worker.beat_seconds < stale_seconds)
    taking = [worker for worker in alive if not worker.draining]
    return Fleet(
        alive=len(alive),
        draining=len(alive) - len(taking),
        in_flight=sum(worker.in_flight + worker.pack_slots for worker in taking),
        gpus=sum(not worker.device.startswith("cpu") for worker in taking),
        last_beat_seconds=found[0].beat_seconds if found else None,
        paused=pause is not None,
        pause_reason=None if pause is None else pause[0],
        stale=tuple(worker for worker in found if worker.beat_seconds >= stale_seconds),
        workers=alive,
    )
