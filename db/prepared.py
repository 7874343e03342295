"""Statements that Postgres plans once for each connection, not each time.

The two statements that every video costs look at a dozen tables: planning them takes five times as
long as running them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

#: A plan is made anew after so long: the tables may have grown.
FRESH_SECONDS = 60.0
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
#: No such statement, or one that is there already: another session answers than before.
_STRANGER = {"26000", "42P05"}


class Prepared:
    """One statement with `:named` parameters; `name` is for logs and `pg_stat_activity`.

    A pooler that gives each transaction another session of Postgres forgets what it was told. Where
    one is met (the session that answers is not the one the driver was promised), or an error says
    so, every statement is sent in full.
    """

    #: Of this process: no pooler has been met.
    serves = True

    def __init__(self, name: str, statement: str) -> None:
        self._plain = text(statement)
        names = list(dict.fromkeys(_PARAMETER.findall(statement)))
        numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
        numbered = _PARAMETER.sub(lambda found: numbers[found[1]], statement)
        # a session may have served a worker of another version
        known = f"reelvec_{name}_{hashlib.sha256(numbered.encode()).hexdigest()[:12]}"
        execute = f"EXECUTE {known}({', '.join(f':{name}' for name in names)})"
        self._name = known
        self._execute = text(execute)
        self._first = text(f"PREPARE {known} AS {numbered}; {execute}")
        self._again = text(f"DEALLOCATE {known}; PREPARE {known} AS {numbered}; {execute}")

    def execute(self, connection: Connection, facts: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it. It is one round trip, but for the first one on a connection, which is two."""
        if not (Prepared.serves and _is_direct(connection)):
            return connection.execute(self._plain, facts)
        told: dict[str, float] = connection.info.setdefault("reelvec_prepared", {})
        statement = self._first
        if self._name in told:
            is_fresh = time.monotonic() - told[self._name] < FRESH_SECONDS
            statement = self._execute if is_fresh else self._again
        if statement is not self._execute:
            told[self._name] = time.monotonic()
        try:
            return connection.execute(statement, facts)
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) in _STRANGER:
                Prepared.serves = False
                log.warning("a pooler is between us and Postgres: statements are sent in full")
            error.statement = self._plain.text  # what was asked, not by which name
            raise


def _is_direct(connection: Connection) -> bool:
    """Whether the session of Postgres that answers is the one this connection was opened to."""
    if "reelvec_direct" not in connection.info:
        driver = connection.connection.driver_connection
        assert driver is not None
        answers = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.info["reelvec_direct"] = answers == driver.info.backend_pid
    return bool(connection.info["reelvec_direct"])
