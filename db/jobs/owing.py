"""What a job still owes, as SQL over `jobs j`: the rows themselves are looked at, `jobs.owes` only
remembers the answer.

Where everything is made again (`force`, another version of the file) the rows are there already,
and `owes` says what is left of it. NULL stands for everything that is wanted. An encoder or tagger
whose row was deleted is owed no more.
"""

from __future__ import annotations

#: What is left to be made, as the job remembers it. The index `jobs_fed` is on this very
#: expression.
REMEMBERED = "coalesce(j.owes, j.encoders)"


def encoders(again: str = "j.force", listed: str = REMEMBERED, wanted: str = "j.encoders") -> str:
    """Wanted encoders without a row; those of `listed` where `again` holds."""
    return f"""array(SELECT e FROM unnest({wanted}) e WHERE e IN (SELECT encoder_id FROM reelvec.encoders)
  AND CASE WHEN {again} THEN e = ANY({listed}) ELSE NOT EXISTS (
    SELECT FROM reelvec.video_embeddings m WHERE m.encoder_id = e AND m.video_id = j.video_id) END ORDER BY e)"""  # noqa: S608


def taggers(again: str = "j.force", listed: str = REMEMBERED, wanted: str = "j.taggers") -> str:
    """Wanted taggers without scores; those that read an encoder of `listed` where `again` holds."""
    return f"""array(SELECT t.tagger_id FROM reelvec.taggers t WHERE t.tagger_id = ANY({wanted})
  AND CASE WHEN {again} THEN t.encoder_id = ANY({listed}) ELSE NOT EXISTS (
    SELECT FROM reelvec.scores s WHERE s.tagger_id = t.tagger_id AND s.video_id = j.video_id) END ORDER BY 1)"""  # noqa: S608


def models(owed_encoders: str, owed_taggers: str) -> str:
    """The encoders that have to run: those owed, and those that owed taggers read."""
    return f"""array(SELECT e FROM unnest({owed_encoders}) e UNION
  SELECT encoder_id FROM reelvec.taggers WHERE tagger_id = ANY({owed_taggers}) ORDER BY 1)"""  # noqa: S608
