"""Logins of a test's database that have one of reelvec's roles each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text

from db import session
from db.administration import rights, roles

#: What each is called, and what it is.
NAMES = {
    "desk": rights.ENQUEUER,
    "node": rights.WORKER,
    "guest": rights.READER,
    "boss": rights.ADMIN,
    "nobody": None,
}
ROLES = (rights.ENQUEUER, rights.WORKER, rights.READER, rights.ADMIN)


@contextmanager
def made(database_url: str, password: str = "pw-of-{}") -> Iterator[dict[str, str]]:
    """The address of each login of `NAMES`. Roles are the whole server's, so they go again."""
    with session.connect(database_url) as owner, session.transaction(owner) as connection:
        roles.make(connection)
        for name, role in NAMES.items():
            member = f" IN ROLE {role}" if role else ""
            connection.exec_driver_sql(
                f"CREATE ROLE {name} LOGIN PASSWORD '{password.format(name)}'{member}"
            )
    url = make_url(database_url)
    yield {
        name: url.set(username=name, password=password.format(name)).render_as_string(
            hide_password=False
        )
        for name in NAMES
    }
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for role in (*NAMES, *ROLES):
            connection.execute(text(f"DROP OWNED BY {role} CASCADE"))
            connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()
