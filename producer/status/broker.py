"""Asking the broker, without Celery: does it answer, and how many messages wait in it?"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from db.masking import mask, mask_url
from workers import contract
from workers.backbones import registry
from workers.delivery import broker_trouble
from workers.sampling.policies import POLICIES
from workers.weights.kinds import WEIGHTS_KINDS

#: The lists that hold messages, everybody's and those of every encoder there can be: Celery's key
#: prefix (`workers/app.py`) and the queue's name.
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
    """`messages` wait in the queues at `address` (masked). `error`: why it is of no use; None: it
    is. `does`: what it does instead; None: it does not answer.
    """

    address: str
    messages: int | None = None
    error: str | None = None
    does: str | None = None

    @property
    def problem(self) -> str:
        """What goes behind its name where there is an error."""
        return f"{self.does or broker_trouble.AWAY}: {self.error}"


class Question:
    """Asked in a thread of its own, while the database is asked, too."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._answer = Broker(mask_url(url), error=f"it has not answered for {ANSWER_SECONDS:g} s")
        self._thread = threading.Thread(target=self._ask, name="broker", daemon=True)
        self._thread.start()

    def answer(self) -> Broker:
        self._thread.join(ANSWER_SECONDS)
        return self._answer

    def _ask(self) -> None:
        self._answer = ask(self._url)


def ask(url: str) -> Broker:
    """One question to each broker named (Celery falls back on the next), until one answers. Each
    step has a deadline.
    """
    answers = [Broker(mask_url(url), error="no broker is named")]
    for client in map(client_url, url.split(";")):
        answers.append(_ask_one(client, mask_url(url)))
        if answers[-1].error is None:
            break
    return answers[-1]


def _ask_one(client_address: str, shown: str) -> Broker:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        client = redis.Redis.from_url(
            client_address,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with client.pipeline(transaction=False) as asked:
                for key in QUEUE_KEYS:
                    asked.llen(key)
                lengths = asked.execute(
                    raise_on_error=False
                )  # it would raise the error in words of its own
            if refusals := [length for length in lengths if isinstance(length, Exception)]:
                raise refusals[0]
            return Broker(shown, messages=sum(lengths))
        finally:
            client.close()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        trouble = broker_trouble.judge(error)
        advice = "" if trouble.does == broker_trouble.AWAY else f". {trouble.advice}"
        return Broker(shown, error=mask(f"{trouble.said}{advice}"), does=trouble.does)


def client_url(url: str) -> str:
    """One of Celery's addresses in the words of its client: sockets and TLS options are spelled
    differently.

    To Celery `redis://` with a TLS option means TLS, and `rediss://` without one that no
    certificate is checked.
    """
    scheme, _, rest = url.partition("://")
    before_query, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    if scheme == "redis+socket":
        database = options.pop("virtual_host", "0")
        return f"unix://{before_query}?{urlencode({'db': database, **options})}"
    if any(name.startswith("ssl_") for name in options):
        scheme = "rediss"
    elif scheme == "rediss":
        options["ssl_cert_reqs"] = "none"
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    return f"{scheme}://{before_query}" + (f"?{urlencode(options)}" if options else "")
