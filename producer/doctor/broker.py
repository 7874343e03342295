"""The broker: does it answer, is it new enough, does it keep what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from db.errors import UnavailableError
from db.masking import mask_url
from producer.doctor import requirements
from producer.doctor.check import Check, Finding, fail, failed_with, ok, skipped, warn
from producer.doctor.configuration import servers
from producer.status.broker import client_url
from producer.wording import plural
from workers.contract import BROKER_RIGHTS, KEY_PREFIX
from workers.delivery import broker_trouble

if TYPE_CHECKING:
    from redis import Redis

GROUP = "Broker"
MINIMUM = (6, 2)
CONNECT_SECONDS = 5.0


def checks() -> list[Check]:
    return [Check(GROUP, "server", findings)]


def findings() -> Iterator[Finding]:
    where = servers()
    if where is None:
        yield skipped("server", "no server to ask")
        return
    answering: list[Redis] = []
    for address in where.broker_url.split(";"):  # Celery falls back on the next
        yield from _server(address, answering)
    if answering:
        yield _queue(answering[0])
    for client in answering:
        client.close()


def _server(address: str, answering: list[Redis]) -> Iterator[Finding]:
    """One broker; a client of it is added to `answering` if it does."""
    import redis

    if address.startswith("rediss://") and "ssl_" not in address:
        yield warn(
            "server",
            f"{mask_url(address)}: no certificate is checked",
            "add ?ssl_cert_reqs=required to the address",
        )
    try:
        client = _client(address)
        client.ping()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        yield _refusal(error, mask_url(address))
        return
    answering.append(client)
    try:
        facts: Mapping[str, Any] = client.info()
    except redis.RedisError as error:  # a managed service may forbid it
        yield warn(
            "server",
            f"answers, but not to INFO: {error}",
            "allow this user INFO to have it checked",
        )
    else:
        yield from judge(facts)


def _client(address: str) -> Redis:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        client_url(address),
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _refusal(error: Exception, address: str) -> Finding:
    trouble = broker_trouble.judge(error)
    advice = trouble.advice[:1].lower() + trouble.advice[1:]
    return fail("server", f"{address} {trouble.does}: {trouble.said}", advice)


def judge(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """`facts` as the server's INFO gives them."""
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = str(facts.get("valkey_version") or facts.get("redis_version") or "0")
    if requirements.numbers(version) < MINIMUM:
        yield fail(
            "server",
            f"{name} {version} is too old",
            f"use {'.'.join(map(str, MINIMUM))} or newer, or Valkey",
        )
    else:
        yield ok("server", f"{name} {version}, {_persistence(facts)}")
    if facts.get("role") in ("slave", "replica"):
        yield fail(
            "role", "this server is a replica: it takes no messages", "use the primary's address"
        )
    if facts.get("cluster_enabled") == 1:
        yield fail(
            "cluster",
            "this server is part of a cluster, which Celery cannot use",
            "use a server without cluster mode",
        )
    yield _judge_memory(facts)


def _persistence(facts: Mapping[str, Any]) -> str:
    if facts.get("aof_enabled") == 1:
        return "keeps messages over a restart"
    return "may lose messages in a restart (the ledger sends them again)"


def _judge_memory(facts: Mapping[str, Any]) -> Finding:
    policy = str(facts.get("maxmemory_policy", "unknown"))
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    fact = f"{used >> 20} MiB of {f'{limit >> 20} MiB' if limit else 'no limit'} in use, {policy}"
    if policy.startswith("allkeys"):
        return warn(
            "memory",
            f"{fact}: when its memory is full, it deletes messages of the queue",
            "set maxmemory-policy noeviction",
        )
    if limit and used > 0.9 * limit:
        return warn(
            "memory", f"{fact}: nearly full", "raise maxmemory, or give reelvec a broker of its own"
        )
    return ok("memory", fact)


def _queue(client: Redis) -> Finding:
    """Asked the way producers and workers do. Of a user with few rights the keys are tried first,
    to name what it lacks.
    """
    import redis

    from workers import contract, feeder
    from workers.app import app

    try:
        client.exists(f"{KEY_PREFIX}{contract.QUEUE}")
        return ok(
            "queue",
            f"{plural(feeder.depth(app), 'message waits', 'messages wait')} in {contract.QUEUE!r}",
        )
    except redis.exceptions.NoPermissionError as error:
        fact = " ".join(str(error).split())
        return fail(
            "queue", f"this user lacks a right: {fact}", f"ACL SETUSER that_user {BROKER_RIGHTS}"
        )
    except UnavailableError as error:
        return failed_with("queue", error, advice_after=". Check ")
