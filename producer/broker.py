"""Asking the broker, without Celery: does it answer, and how many messages wait in it?"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from db.logs import mask, mask_url
from workers import contract
from workers.backbones import registry
from workers.backbones.base import WEIGHTS_KINDS
from workers.sampling.plan import POLICIES

#: The lists that hold messages, everybody's and those of every encoder there can be: Celery's key prefix
#: (`workers/app.py`) and the queue's name.
QUEUE_KEYS = [f"reelvec:{contract.QUEUE}"] + [
    f"reelvec:{contract.queue_of(registry.encoder_name(backbone, weights, sampling))}"
    for backbone in registry.names()
    for weights in WEIGHTS_KINDS
    for sampling in POLICIES
]
CONNECT_SECONDS = 3.0
#: Neither a name server nor a silent network is waited for any longer.
ANSWER_SECONDS = 8.0


@dataclass(frozen=True)
class Broker:
    """`messages` wait in the queues at `address` (masked). `error`: why there is no answer; None: there is one."""

    address: str
    messages: int | None = None
    error: str | None = None


class Question:
    """Asked in a thread of its own, while the database is asked, too."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._answer = Broker(mask_url(url), error=f"it has said nothing for {ANSWER_SECONDS:g} s")
        self._thread = threading.Thread(target=self._ask, name="broker", daemon=True)
        self._thread.start()

    def answer(self) -> Broker:
        self._thread.join(ANSWER_SECONDS)
        return self._answer

    def _ask(self) -> None:
        self._answer = ask(self._url)


def ask(url: str) -> Broker:
    """One question with a deadline for each step and no second try."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    address = mask_url(url)
    try:
        client = redis.Redis.from_url(
            client_url(url),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with client.pipeline(transaction=False) as asked:
                for key in QUEUE_KEYS:
                    asked.llen(key)
                return Broker(address, messages=sum(asked.execute()))
        finally:
            client.close()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        return Broker(address, error=mask(" ".join(str(error).split()).rstrip(".")) or type(error).__name__)


def client_url(url: str) -> str:
    """Celery's address in the words of its client: sockets and TLS options are spelled differently."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "redis+socket":
        database = options.pop("virtual_host", "0")
        return f"unix://{parts.netloc}{parts.path}?{urlencode({'db': database, **options})}"
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    return urlunsplit(parts._replace(query=urlencode(options)))
