"""Postgres: does it answer, is it new enough, what may we do there, does the schema fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from producer.doctor import requirements
from producer.doctor.check import Check, Finding, fail, failed_with, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from db.administration.indexes import Index
    from db.administration.server_facts import PostgresFacts, VectorFacts

GROUP = "Postgres"
#: What a video with vectors and tags takes: its claim 1, its end 1, three COPYs 2 each, COMMIT 1.
ROUND_TRIPS = 9
SLOW_SECONDS = 0.05
MAKE_EXTENSION = "CREATE EXTENSION vector WITH SCHEMA public"


def checks() -> list[Check]:
    return [Check(GROUP, "server", findings)]


def findings() -> Iterator[Finding]:
    from db import schema, session, settings
    from db.administration import indexes, rights, server_facts
    from db.errors import RefusedConfigurationError, UnavailableError, UsageError
    from workers.settings import WorkerSettings

    where = servers()
    if where is None:
        yield skipped("server", "no server to ask")
        return
    try:
        with (
            session.connect(where.database_url, pool_size=1) as database,
            session.transaction(database) as connection,
        ):
            facts = server_facts.postgres(connection)
            yield from judge_server(facts, server_facts.round_trip_seconds(connection))
            vectors = server_facts.pgvector(connection)
            problem = (
                server_facts.distance_problem(connection, vectors.schema)
                if vectors.schema
                else None
            )
            yield judge_pgvector(vectors, facts.role, problem)
            yield judge_connections(facts, settings.load(WorkerSettings).in_flight + 2)
            lacks = rights.missing(connection)
            yield judge_rights(facts.role, lacks)
            if lacks[rights.READER]:
                yield skipped("schema", "this role may not read which revision it is")
                return
            try:
                yield ok("schema", f"revision {schema.check(connection)} fits this version")
                yield from judge_indexes(indexes.unindexed(connection))
            except RefusedConfigurationError as error:
                yield failed_with("schema", error)
    except UnavailableError as error:
        yield failed_with("server", error, advice_after=". Check ")
    except UsageError as error:
        yield failed_with("server", error, advice_after=". ")


def judge_server(facts: PostgresFacts, round_trip_seconds: float) -> Iterator[Finding]:
    from db.schema import MINIMUM_POSTGRES

    answer = f"answers in {round_trip_seconds * 1000:.1f} ms"
    if facts.version_number < MINIMUM_POSTGRES:
        yield fail(
            "server",
            f"Postgres {facts.version} is too old",
            f"use {MINIMUM_POSTGRES // 10000} or newer",
        )
    elif round_trip_seconds > SLOW_SECONDS:
        yield warn(
            "server",
            f"Postgres {facts.version} {answer}: slow",
            f"put workers near it: a video waits for it {ROUND_TRIPS} times",
        )
    else:
        yield ok("server", f"Postgres {facts.version} {answer}")
    if facts.read_only:
        yield fail(
            "writing",
            "this server or role is read-only",
            "use the primary's address, and no default_transaction_read_only",
        )
    if facts.encoding != "UTF8":
        yield fail(
            "encoding",
            f"the database is {facts.encoding}: names and prompts in other scripts cannot be "
            "stored",
            "make another one: CREATE DATABASE reelvec ENCODING 'UTF8' TEMPLATE template0",
        )


def judge_pgvector(facts: VectorFacts, user: str = "", problem: str | None = None) -> Finding:
    """`problem`: why two vectors could not be compared."""
    from db.schema import MINIMUM_PGVECTOR

    least = ".".join(map(str, MINIMUM_PGVECTOR))
    version = facts.installed or facts.available
    if version is None:
        return fail(
            "pgvector",
            "this server does not have it",
            f"install pgvector {least} or newer on the server",
        )
    if requirements.numbers(version) < MINIMUM_PGVECTOR:
        newer = (
            facts.available is not None
            and requirements.numbers(facts.available) >= MINIMUM_PGVECTOR
        )
        first = "" if newer else "install it on the server, then "
        return fail(
            "pgvector",
            f"{version} is too old, {least} is needed",
            f"{first}have a DBA run ALTER EXTENSION vector UPDATE",
        )
    if facts.installed is not None and problem is not None:
        advice = (
            f"GRANT USAGE ON SCHEMA {facts.schema} TO {user}"
            if not facts.may_use
            else "see what it says"
        )
        return fail(
            "pgvector",
            f"{version} in schema {facts.schema} cannot be used: {problem}",
            f"have a DBA run {advice}",
        )
    if facts.installed is not None:
        return ok("pgvector", f"{version} installed in schema {facts.schema}, and compares vectors")
    if facts.may_install:
        return ok("pgvector", f"{version} available; reelvec db upgrade installs it")
    return fail(
        "pgvector",
        f"{version} available, but this role may not install it",
        f"have a DBA run {MAKE_EXTENSION} here",
    )


def judge_connections(facts: PostgresFacts, pool: int) -> Finding:
    free = facts.connections_limit - facts.connections_used
    fact = (
        f"{facts.connections_used} of {facts.connections_limit} in use; a worker with the settings "
        f"here takes up to {pool}"
    )
    if free < pool:
        return warn(
            "connections",
            fact,
            "raise max_connections (or the role's limit), or lower REELVEC_SAMPLERS",
        )
    return ok("connections", fact)


def judge_rights(user: str, lacks: dict[str, list[str]]) -> Finding:
    """`lacks`: what the role of this address lacks to be each of reelvec's roles."""
    from db.administration import rights

    purposes = {rights.READER: "read", rights.ENQUEUER: "enqueue", rights.WORKER: "work"}
    may = [does for role, does in purposes.items() if not lacks[role]]
    rights_found = [
        f"to {purposes[role]} it lacks {rights.shown(what)}" for role, what in lacks.items() if what
    ]
    advice = "have an administrator run reelvec db roles and GRANT the one that is wanted to it"
    if not rights_found:
        return ok("rights", f"role {user} may read, enqueue and work")
    if lacks[rights.READER]:
        return fail("rights", f"role {user} may not read: {rights_found[0]}", advice)
    fact = f"role {user} may {' and '.join(may)}; {'; '.join(rights_found)}"
    return ok("rights", fact) if len(may) > 1 else warn("rights", fact, advice)


def judge_indexes(missing: Sequence[Index]) -> Iterator[Finding]:
    """`missing`: encoders with many vectors and no index."""
    from db.administration.indexes import WORTH_VECTORS

    names = [index.encoder for index in missing]
    if names:
        yield warn(
            "indexes",
            f"more than {WORTH_VECTORS:,} vectors of {', '.join(names)} have no index: each search "
            "reads them all",
            f"run reelvec db index {' '.join(names)} when the big job is done",
        )
