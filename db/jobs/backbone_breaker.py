"""Pausing a backbone whose failures blame us or the model: trying a million videos more would only
fail them all.

Codes that describe a file never count here. A person has to look, and resumes with `reelvec pause
--resume`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass

WINDOW_SECONDS = 600.0
#: So many videos, of two places or tried by two workers, and at least as many as were embedded
#: meanwhile.
VIDEOS = 20
SAMPLER = ["sampler_crashed", "sampler_defect"]
#: The row of `control` that stops all claims when samplers crash, whatever the backbone.
SAMPLER_CONTROL = "samplers"

_BLAMED = sorted(
    code
    for code, kind in VIDEO_ERROR_CLASSES.items()
    if kind in (ErrorClass.DEVICE, ErrorClass.BAD_OUTPUT)
)

_FAILING = text("""
WITH failed AS (
  SELECT e.backbone, a.video_id, a.worker_id, a.error_code, a.error, a.at, j.place_id
  FROM reelvec.attempts a JOIN reelvec.jobs j USING (video_id) LEFT JOIN reelvec.encoders e ON e.encoder = a.encoder
  WHERE a.at > now() - make_interval(secs => :window)
    AND (a.error_code = ANY(:sampler) OR (a.error_code = ANY(:blamed) AND e.backbone IS NOT NULL))
    AND a.at > coalesce((SELECT at FROM reelvec.paused_backbones p WHERE p.backbone = e.backbone), '-infinity')
    AND a.at > coalesce((SELECT at FROM reelvec.control WHERE name = :control AND e.backbone IS NULL), '-infinity')
)
SELECT backbone, count(DISTINCT video_id) AS videos, mode() WITHIN GROUP (ORDER BY error_code) AS code,
  (array_agg(error ORDER BY at DESC))[1] AS error, min(at) AS since
FROM failed GROUP BY backbone
HAVING count(DISTINCT video_id) >= :videos AND (count(DISTINCT place_id) >= 2 OR count(DISTINCT worker_id) >= 2)
""")

_EMBEDDED = text("""
SELECT count(DISTINCT video_id) FROM reelvec.jobs j JOIN reelvec.video_embeddings m USING (video_id)
JOIN reelvec.encoders e USING (encoder_id)
WHERE j.finished_at >= :since AND m.created_at >= :since AND e.backbone = coalesce(:backbone, e.backbone)
""")

_PAUSE = text("""
INSERT INTO reelvec.paused_backbones (backbone, reason) VALUES (:backbone, :reason)
ON CONFLICT (backbone) DO UPDATE SET paused = true, reason = excluded.reason, at = now()
WHERE NOT paused_backbones.paused RETURNING 1
""")

_PAUSE_ALL = text("""
INSERT INTO reelvec.control (name, paused, reason) VALUES (:control, true, :reason)
ON CONFLICT (name) DO UPDATE SET paused = true, reason = excluded.reason, at = now()
WHERE NOT control.paused RETURNING 1
""")


@dataclass(frozen=True)
class Paused:
    """What was paused just now; `backbone` is None where samplers crash and everything is."""

    backbone: str | None
    reason: str


def pause_failing(connection: Connection) -> list[Paused]:
    """Pause what fails for reasons of ours; returns what was not paused before."""
    facts = {"window": WINDOW_SECONDS, "videos": VIDEOS, "sampler": SAMPLER, "blamed": _BLAMED}
    paused = []
    for row in connection.execute(_FAILING, {**facts, "control": SAMPLER_CONTROL}).all():
        done = int(
            connection.execute(
                _EMBEDDED, {"since": row.since, "backbone": row.backbone}
            ).scalar_one()
        )
        if done > row.videos:
            continue
        reason = (
            f"{row.videos} videos failed with {row.code}, {done} were embedded meanwhile; the "
            f"last: {row.error[:300]}"
        )
        statement = _PAUSE_ALL if row.backbone is None else _PAUSE
        changed = connection.execute(
            statement, {"backbone": row.backbone, "reason": reason, "control": SAMPLER_CONTROL}
        ).first()
        if changed is not None:
            paused.append(Paused(row.backbone, reason))
    return paused
