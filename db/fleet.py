"""Who works: the workers that beat, what each is made of and how busy its device is, and who went missing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class LiveWorker:
    """One process as it said with its last beat. `cores` is its share of the machine's.

    `queued_windows` wait for its device, `running_windows` are being computed there; None: a version that did not say.
    """

    host: str
    pid: int
    device: str
    draining: bool
    in_flight: int
    samplers: int
    cores: float
    videos_per_batch: int
    queued_windows: int | None = None
    running_windows: int | None = None


@dataclass(frozen=True)
class StaleWorker:
    """A process that has not said goodbye and does not beat."""

    host: str
    pid: int
    beat_seconds: float


@dataclass(frozen=True)
class Fleet:
    """`alive` workers have beaten within the stale time, `draining` of them take no more videos.

    `in_flight` is how many videos the others work on at once, `gpus` how many of those have a GPU.
    `last_beat_seconds` is the youngest beat's age. `workers` are those alive, the draining ones among them.
    """

    alive: int
    draining: int
    in_flight: int
    gpus: int
    last_beat_seconds: float | None
    paused: bool = False
    pause_reason: str | None = None
    stale: tuple[StaleWorker, ...] = ()
    workers: tuple[LiveWorker, ...] = ()


# Workers of revision 0002 say neither: they have 2 videos in flight a sampler and one more, and leave one core free.
_WORKERS = text("""
SELECT host, pid, device, draining, in_flight, coalesce(samplers, (in_flight - 1) / 2) AS samplers,
  coalesce(cores, (in_flight + 1) / 2)::double precision AS cores, coalesce(videos_per_batch, 1) AS videos_per_batch,
  queued_windows, running_windows, extract(epoch FROM now() - beat_at)::double precision AS beat_seconds
FROM reelvec.workers ORDER BY beat_at DESC
""")


def read(connection: Connection, *, stale_seconds: float) -> Fleet:
    """Who works. Workers that ended cleanly are not listed; those that did not are stale for a day."""
    rows = [dict(row._mapping) for row in connection.execute(_WORKERS)]
    pause = connection.execute(text("SELECT reason FROM reelvec.control WHERE paused LIMIT 1")).first()
    beats = [float(row.pop("beat_seconds")) for row in rows]
    alive = [LiveWorker(**row) for row, beat in zip(rows, beats, strict=True) if beat < stale_seconds]
    taking = [worker for worker in alive if not worker.draining]
    return Fleet(
        alive=len(alive),
        draining=len(alive) - len(taking),
        in_flight=sum(worker.in_flight for worker in taking),
        gpus=sum(not worker.device.startswith("cpu") for worker in taking),
        last_beat_seconds=beats[0] if beats else None,
        paused=pause is not None,
        pause_reason=None if pause is None else pause[0],
        stale=tuple(
            StaleWorker(row["host"], row["pid"], beat)
            for row, beat in zip(rows, beats, strict=True)
            if beat >= stale_seconds
        ),
        workers=tuple(alive),
    )
