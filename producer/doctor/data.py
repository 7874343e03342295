"""`--data`: the rules that all rows must keep, each shown as soon as it was counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from db.errors import RefusedConfigurationError, UnavailableError
from producer.doctor.check import Check, Finding, Status, failed_with, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from db.administration.invariants import Checked

GROUP = "Data"
#: A query that takes longer is not finished.
QUERY_SECONDS = 60.0


def checks() -> list[Check]:
    from db.administration.invariants import INVARIANTS

    return [Check(GROUP, "data", findings, QUERY_SECONDS * (len(INVARIANTS) + 1))]


def findings() -> Iterator[Finding]:
    from db import schema, session
    from db.administration import invariants

    where = servers()
    if where is None:
        yield skipped("data", "no database to ask")
        return
    try:
        with session.connect(
            where.database_url, pool_size=1, statement_seconds=QUERY_SECONDS
        ) as database:
            with session.transaction(database) as connection:
                schema.check(connection)
            for checked in invariants.check_all(database, timeout_seconds=QUERY_SECONDS):
                yield judge(checked)
    except UnavailableError as error:
        yield failed_with("data", error, advice_after=". Check ")
    except RefusedConfigurationError as error:
        yield failed_with("data", error)


def judge(checked: Checked) -> Finding:
    rule = checked.invariant
    sample = (
        ""
        if checked.sampled_percent is None
        else f" in a sample of {checked.sampled_percent:g} % of the table"
    )
    if checked.count is None:
        fact = f"not finished within {QUERY_SECONDS:g} s, or a lock held it up"
        return warn(rule.name, fact, "try again when the database is less busy")
    if not checked.count:
        return ok(rule.name, f"0{sample}")
    fact = f"{checked.count:,} {rule.meaning}{sample}, for example {checked.example}"
    if rule.severity == "note":
        return ok(rule.name, fact, rule.advice)
    status = Status.WARN if rule.severity == "warn" else Status.FAIL
    return Finding(rule.name, status, fact, advice_of(checked))


def advice_of(checked: Checked) -> str:
    rule = checked.invariant
    advice = rule.advice or (
        "" if rule.repair else "delete them; reelvec doctor --data then says how they come back"
    )
    if not rule.repair_sql:
        return advice
    command = f'reelvec db sql --write "{rule.repair_sql}"'
    return f"{advice}: {command}" if advice else command
