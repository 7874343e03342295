"""Counts of a large ledger, shared by all who ask.

Counting a million jobs takes half a second of two cores. Where the ledger is that large, whoever
counts stores what it found, the next ones take it while it is a few seconds old, and the workers
keep it fresh for as long as somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.progress import census
from db.progress.census import Census, Group, InState

#: A ledger of fewer jobs (as Postgres estimates them) always counts itself.
SHARED_JOBS = 100_000
#: Shared counts are this old at most, or a second older for each so many jobs: counting takes a
#: tenth of the time at most.
FRESH_SECONDS, JOBS_PER_SECOND_OF_AGE = 5.0, 100_000
#: Workers keep the counts fresh for this long after somebody looked.
WATCHED_SECONDS = 600.0
CENSUS_LOCK = 7_120_431_005

# Versions before 0022 store groups of another form, with a hash of them in `sets_of`.
_STORED = text("""
SELECT (SELECT reltuples >= :shared_jobs FROM pg_class WHERE oid = 'reelvec.jobs'::regclass) AS is_large,
  has_table_privilege('reelvec.census', 'INSERT') AND has_table_privilege('reelvec.census', 'UPDATE')
    AND NOT current_setting('transaction_read_only')::boolean AS may_store,
  extract(epoch FROM now() - taken_at)::double precision AS age_seconds,
  extract(epoch FROM now() - looked_at)::double precision AS looked_seconds,
  groups, CASE WHEN sets_of IS NULL THEN categories END AS categories
FROM (SELECT) always LEFT JOIN reelvec.census ON true
""")
_STORE = text("""
INSERT INTO reelvec.census (groups, categories, looked_at)
VALUES (:groups, :categories, CASE WHEN :looked THEN now() END)
ON CONFLICT (census_id) DO UPDATE SET taken_at = now(), groups = excluded.groups, categories = excluded.categories,
  sets = NULL, sets_of = NULL, looked_at = coalesce(excluded.looked_at, census.looked_at)
""").bindparams(bindparam("groups", type_=JSONB), bindparam("categories", type_=JSONB))
_LOOKED = text("UPDATE reelvec.census SET looked_at = now()")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


def look(connection: Connection) -> Census:
    """All jobs, counted now; on a large ledger as somebody has counted them a few seconds ago, if
    anybody did.

    Whoever may not write (a read-only role, a replica) counts for itself alone.
    """
    stored = connection.execute(_STORED, {"shared_jobs": SHARED_JOBS}).one()
    if not stored.is_large:
        return census.count(connection)
    known = _aged(stored)
    is_first = stored.may_store and connection.execute(_TRY_LOCK, {"key": CENSUS_LOCK}).scalar()
    if known is not None and known.age_seconds <= fresh_seconds(known.groups):
        if is_first and (
            stored.looked_seconds is None or stored.looked_seconds > WATCHED_SECONDS / 10
        ):
            connection.execute(_LOOKED)
        return known
    if (
        known is not None
        and stored.may_store
        and not is_first
        and known.age_seconds <= WATCHED_SECONDS
    ):
        return known  # somebody is counting just now
    counted = census.count(connection)
    if is_first:
        _store(connection, counted, looked=True)
    return counted


def refresh(connection: Connection) -> bool:
    """Count again for those who look, if anybody has lately and nobody counts already. False: there
    was no need.
    """
    stored = connection.execute(_STORED, {"shared_jobs": SHARED_JOBS}).one()
    if not (stored.is_large and stored.may_store) or stored.looked_seconds is None:
        return False
    known = _aged(stored)
    if stored.looked_seconds > WATCHED_SECONDS:
        return False
    if known is not None and known.age_seconds < fresh_seconds(known.groups) / 2:
        return False
    if not connection.execute(_TRY_LOCK, {"key": CENSUS_LOCK}).scalar():
        return False
    _store(connection, census.count(connection), looked=False)
    return True


def fresh_seconds(groups: Iterable[Group]) -> float:
    """How old shared counts of so many jobs may be."""
    return max(FRESH_SECONDS, sum(group.videos for group in groups) / JOBS_PER_SECOND_OF_AGE)


def _store(connection: Connection, counted: Census, *, looked: bool) -> None:
    groups = [asdict(group) for group in counted.groups]
    facts = {"groups": groups, "categories": counted.categories, "looked": looked}
    connection.execute(_STORE, facts)


def _aged(stored: Row[Any]) -> Census | None:
    """Stored counts, with their times told from now; None: there are none, or an older version has
    stored them.
    """
    if stored.categories is None:
        return None
    groups = [_older(census.group(facts), stored.age_seconds) for facts in stored.groups]
    categories = (InState(*row) for row in stored.categories)
    return Census(tuple(groups), tuple(categories), stored.age_seconds)


def _older(group: Group, seconds: float) -> Group:
    times = ("newest_start_seconds", "oldest_start_seconds", "outage_seconds", "ready_seconds")
    older = {name: value + seconds for name in times if (value := getattr(group, name)) is not None}
    delay = None if group.delay_seconds is None else max(0.0, group.delay_seconds - seconds)
    return replace(group, **older, delay_seconds=delay)
