"""What people read of progress: cancelled videos are no throughput.

The columns stay as they are, so that the view is replaced under whoever reads it.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
compatible_from = "0001"

PROGRESS = """
CREATE OR REPLACE VIEW reelvec.progress AS
SELECT CASE WHEN grouping(v.category) = 1 THEN '(all)' ELSE coalesce(v.category, '(none)') END AS category,
       count(*) AS videos,
       count(*) FILTER (WHERE j.state = 'done') AS done,
       count(*) FILTER (WHERE j.state = 'failed') AS failed,
       count(*) FILTER (WHERE j.state = 'running') AS running,
       count(*) FILTER (WHERE j.state IN ('pending', 'queued')) AS waiting,
       count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE j.state = 'done' AND j.finished_at > now() - interval '10 minutes') / 600.0
         AS videos_per_second
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
GROUP BY GROUPING SETS ((v.category), ())
"""


def upgrade() -> None:
    op.execute(PROGRESS)
    op.execute(
        "COMMENT ON COLUMN reelvec.progress.videos_per_second IS 'Done in the last 10 minutes.'"
    )
