"""Nothing waits for Postgres without an end: every call has a deadline on both sides.

The server's are settings of each transaction. They travel with its first statement, so they cost no
round trip, leave nothing behind in a session that others use after us (a transaction pooler), and
ask for no rights. The client's is a thread with a clock: nothing else notices a peer that
acknowledges every byte and never answers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import psycopg2  # type: ignore[import-untyped]
from psycopg2.extensions import (  # type: ignore[import-untyped]
    ISOLATION_LEVEL_AUTOCOMMIT,
    TRANSACTION_STATUS_IDLE,
)

T = TypeVar("T")

#: A client may pause this long between two statements of a transaction, which holds locks.
IDLE_SECONDS = 10.0
#: Somebody who waits hears of it after so long; an answer within a second starts the time anew.
SILENCE_SECONDS = 10.0
QUICK_SECONDS = 1.0


def limits(statement_seconds: float) -> str:
    """What stands before the first statement of a transaction.

    The keepalives are for a client that is gone for good in the midst of a COPY: no other limit
    ends that.
    """
    milliseconds = {
        "statement_timeout": statement_seconds,
        "lock_timeout": statement_seconds / 2,
        "idle_in_transaction_session_timeout": min(IDLE_SECONDS, statement_seconds),
        "tcp_user_timeout": 20.0,
    }
    settings = {name: max(1, round(seconds * 1000)) for name, seconds in milliseconds.items()}
    settings |= {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 2}
    return "".join(f"SET LOCAL {name} = {value}; " for name, value in settings.items())


class Watch:
    """The client's clock over all connections of one pool. `tell` hears of long waits, as somebody
    sits there.

    A call that takes longer than `answer_seconds` has its connection shut down under it and fails.
    """

    def __init__(self, answer_seconds: float, tell: Callable[[str], None] | None = None) -> None:
        self.answer_seconds = answer_seconds
        self._tell = tell
        self._since: dict[GuardedConnection, float] = {}
        self._slow_since: float | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="deadlines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def run(self, connection: GuardedConnection, call: Callable[[], T]) -> T:
        """What `call`, which waits for an answer on `connection`, returns."""
        started = time.monotonic()
        with self._lock:
            self._since[connection] = started
            self._slow_since = started if self._slow_since is None else self._slow_since
        try:
            return call()
        except psycopg2.Error as error:
            if connection.was_shut_down:
                raise psycopg2.OperationalError(
                    f"no answer within {self.answer_seconds:g} s"
                ) from error
            raise
        finally:
            # Under the lock, so that a descriptor that is closed next and used for something else
            # is never shut down.
            with self._lock:
                del self._since[connection]
                if time.monotonic() - started < QUICK_SECONDS:
                    self._slow_since = None

    def _look(self) -> None:
        while not self._ended.wait(min(0.5, self.answer_seconds / 10)):
            now = time.monotonic()
            with self._lock:
                for connection, since in self._since.items():
                    if now - since > self.answer_seconds and not connection.was_shut_down:
                        connection.shut_down()
                silent = (
                    bool(self._since)
                    and self._slow_since is not None
                    and now - self._slow_since > SILENCE_SECONDS
                )
                if silent:
                    self._slow_since = now
            if silent and self._tell is not None:
                self._tell("still waiting for Postgres to answer")


class GuardedConnection(psycopg2.extensions.connection):  # type: ignore[misc]
    """A connection whose every call is watched, and whose transactions begin with `prefix`.

    The driver would send BEGIN by itself and wait for its answer. It is told to send nothing of its
    own: BEGIN and the limits travel with the first statement. Where that statement is `alone`, it
    is its own transaction, and its answer says that it is committed.
    """

    def __init__(self, dsn: str, *, watch: Watch, prefix: str) -> None:
        super().__init__(dsn)
        self.watch, self.prefix = watch, prefix
        self.was_shut_down = self.alone = self._autocommit = False
        self.cursor_factory = GuardedCursor
        self.set_session(autocommit=True)

    @property
    def autocommit(self) -> bool:
        """Whether no transactions are begun here; what the driver itself is told is above."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._autocommit = value

    def set_isolation_level(self, level: int) -> None:
        """SQLAlchemy's way of saying AUTOCOMMIT, and of taking it back; what is open ends, as the
        driver has it.
        """
        self.rollback()
        self._autocommit = level == ISOLATION_LEVEL_AUTOCOMMIT

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            with self.cursor() as cursor:
                cursor.execute(how)

    def shut_down(self) -> None:
        """End the connection under whoever waits for it, from another thread."""
        self.was_shut_down = True
        with (
            contextlib.suppress(OSError, psycopg2.Error),
            socket.socket(fileno=os.dup(self.fileno())) as ours,
        ):
            ours.shutdown(socket.SHUT_RDWR)

    @property
    def begins(self) -> bool:
        """Whether the next statement is the first of a transaction."""
        return not self._autocommit and self.get_transaction_status() == TRANSACTION_STATUS_IDLE


class GuardedCursor(psycopg2.extensions.cursor):  # type: ignore[misc]
    def execute(self, query: str | bytes, vars: Any = None) -> None:
        connection = self.connection
        if connection.begins:
            if connection.prefix:
                opening = connection.prefix if connection.alone else f"BEGIN; {connection.prefix}"
                query = opening + query if isinstance(query, str) else opening.encode() + query
            else:  # somebody's own SQL: an error in it shows the statement as it was written
                self._begin()
        connection.watch.run(connection, lambda: super(GuardedCursor, self).execute(query, vars))

    def executemany(self, query: str | bytes, vars_list: Any) -> None:
        self._begin()
        self.connection.watch.run(
            self.connection, lambda: super(GuardedCursor, self).executemany(query, vars_list)
        )

    def copy_expert(self, sql: str, file: Any, size: int = 8192) -> None:
        self._begin()
        self.connection.watch.run(
            self.connection, lambda: super(GuardedCursor, self).copy_expert(sql, file, size)
        )

    def _begin(self) -> None:
        """What cannot carry BEGIN and the limits, such as a COPY, has them sent ahead."""
        connection = self.connection
        if connection.begins:
            begin = f"BEGIN; {connection.prefix}"
            connection.watch.run(connection, lambda: super(GuardedCursor, self).execute(begin))
