"""The transport that is really in use, read from live connections, and what it makes of the
queue.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from kombu.asynchronous import Hub

from tests.garbage import FORGED, GARBAGE
from tests.integration.test_tls import certificate
from workers import contract
from workers.delivery import messages, transport


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as made:
        yield made


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def carry(near: socket.socket, address: tuple[str, int]) -> None:
    with near, socket.create_connection(address) as far:
        back = threading.Thread(target=pump, args=(far, near), daemon=True)
        back.start()
        pump(near, far)
        back.join()


@contextlib.contextmanager
def in_front_of(
    broker_url: str, listener: socket.socket, tls: ssl.SSLContext | None = None
) -> Iterator[None]:
    """Lets `listener`'s connections through to the broker."""
    split = urlsplit(broker_url)
    address = (split.hostname or "", split.port or 0)
    threads = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                try:
                    near = near if tls is None else tls.wrap_socket(near, server_side=True)
                except ssl.SSLError:
                    continue
                threads.append(threading.Thread(target=carry, args=(near, address), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (accepting, *threads):
        thread.join()


@pytest.fixture
def tls_address(broker_url: str, tmp_path: Path) -> Iterator[str]:
    """host:port that speaks TLS with a certificate nobody knows (authority: server.pem in
    `tmp_path`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))
    with in_front_of(broker_url, listener, context):
        yield f":{urlsplit(broker_url).password}@127.0.0.1:{listener.getsockname()[1]}"


def options_in_use(app: Celery, url: str) -> dict[str, Any]:
    """Of the connections to the broker that a live channel makes; asserts that they and their
    channel are ours.
    """
    with app.connection_for_read(url) as connection:
        channel = connection.default_channel
        assert type(connection.transport) is transport.Transport
        assert type(channel) is transport.Channel
        assert type(channel.qos) is transport.QoS
        assert connection.transport.driver_type == "redis", (
            "Celery disables the prefetch for this one only"
        )
        assert channel.client.ping()
        assert channel.client.global_keyprefix == "reelvec:"
        made: redis.Connection = channel.pool.get_connection()
        assert (made.socket_timeout, made.health_check_interval) == (5, 5)
        if not isinstance(made, redis.UnixDomainSocketConnection):
            assert (made.socket_connect_timeout, made.socket_keepalive) == (5, True)
        made.disconnect()
        return {"class": type(made).__mro__, **channel.pool.connection_kwargs}


def test_plain(app: Celery, broker_url: str) -> None:
    assert redis.SSLConnection not in options_in_use(app, broker_url)["class"]


def test_tls_as_the_address_says(app: Celery, tls_address: str, tmp_path: Path) -> None:
    plain = options_in_use(app, f"rediss://{tls_address}/0")
    assert redis.SSLConnection in plain["class"]
    assert plain["ssl_cert_reqs"] == ssl.CERT_NONE, "kombu's default"
    authority = f"ssl_cert_reqs=required&ssl_ca_certs={tmp_path / 'server.pem'}"
    checked = options_in_use(app, f"rediss://{tls_address}/0?{authority}")
    assert redis.SSLConnection in checked["class"]
    assert checked["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    unknown = app.connection_for_read(f"rediss://{tls_address}/0?ssl_cert_reqs=required")
    with unknown, pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        unknown.connect()


def test_a_unix_socket(app: Celery, broker_url: str, reachable: Path) -> None:
    path = reachable / "broker.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with in_front_of(broker_url, listener):
        used = options_in_use(
            app, f"redis+socket://:{urlsplit(broker_url).password}@{path}?virtual_host=0"
        )
    assert redis.UnixDomainSocketConnection in used["class"]


def test_after_a_failover(app: Celery, broker_url: str, tls_address: str) -> None:
    dead = "redis://127.0.0.1:1/0"
    assert redis.SSLConnection not in options_in_use(app, f"{dead};{broker_url}")["class"]
    assert redis.SSLConnection in options_in_use(app, f"{dead};rediss://{tls_address}/0")["class"]


def test_of_producers(app: Celery, broker_url: str) -> None:
    app.conf.broker_url = f"redis://127.0.0.1:1/0;{broker_url}"
    with app.producer_pool.acquire(block=True) as producer:
        assert type(producer.channel) is transport.Channel
        assert producer.supports_batch_publish, "thousands of messages in a round trip"


class Consumer:
    """Takes messages as a worker does, in an event loop; `taken` are video ids, `unacknowledged`
    their messages.
    """

    def __init__(self, app: Celery) -> None:
        self.taken: list[int] = []
        self.unacknowledged: list[Any] = []
        self.hub = Hub()
        self.connection = app.connection_for_read()
        self.connection.register_with_event_loop(self.hub)
        self.channel = self.connection.default_channel
        self._consumer = app.amqp.TaskConsumer(self.connection, on_message=self._take)
        self._consumer.consume()

    def _take(self, message: Any) -> None:
        assert message.headers["task"] == contract.TASK_NAME
        self.taken.append(contract.decode(message.payload[0]))
        self.unacknowledged.append(message)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if condition():
                return
            self.hub.run_once()
        raise AssertionError("this should have happened by now")

    def close(self) -> None:
        self.connection.close()
        self.hub.close()


@pytest.fixture
def consumer(app: Celery) -> Iterator[Consumer]:
    made = Consumer(app)
    yield made
    made.close()


def ours(video_id: int) -> bytes:
    return json.dumps(messages.write(video_id, queue=contract.QUEUE, tag="t")).encode()


def test_garbage_is_passed_over_and_what_lies_behind_it_is_served(
    consumer: Consumer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.lpush("reelvec:reelvec", *GARBAGE.values(), *FORGED.values(), ours(99))
    connections = client.info("stats")["total_connections_received"]
    consumer.until(lambda: 99 in consumer.taken)
    assert consumer.taken == [1] * len(FORGED) + [99]
    assert client.info("stats")["total_connections_received"] <= connections + 1, "none was dropped"
    dropped = [
        record.getMessage() for record in caplog.records if "not ours" in record.getMessage()
    ]
    assert 1 <= len(dropped) < len(GARBAGE), "one line a second at most"
    assert "it is not JSON: b'hello'" in dropped[0]


def test_nothing_is_kept_in_the_broker_of_a_message_that_was_taken(
    consumer: Consumer, client: redis.Redis
) -> None:
    client.lpush("reelvec:reelvec", ours(1))
    consumer.until(lambda: bool(consumer.taken))
    assert [key for key in client.scan_iter("*") if b"binding" not in key] == []


def test_a_rejected_message_is_put_back(consumer: Consumer, client: redis.Redis) -> None:
    client.lpush("reelvec:reelvec", ours(1), ours(2))
    consumer.until(lambda: consumer.taken == [1, 2])
    consumer.unacknowledged[0].reject(requeue=True)
    consumer.until(lambda: consumer.taken == [1, 2, 1])


@pytest.mark.parametrize("way_out", ["ack", "reject", "requeue"])
def test_a_place_is_free_again_whatever_the_broker_does(
    consumer: Consumer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, way_out: str
) -> None:
    consumer.channel.basic_qos(prefetch_count=1)
    client.lpush("reelvec:reelvec", ours(1))
    consumer.until(lambda: consumer.taken == [1])
    qos = consumer.channel.qos
    assert not qos.can_consume()

    def refuse(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.Connection, "send_packed_command", refuse)
    getattr(consumer.unacknowledged[0], way_out)()
    assert qos.can_consume()


def test_a_lost_connection_delivers_nothing_twice_and_its_messages_can_still_be_answered(
    consumer: Consumer, client: redis.Redis
) -> None:
    client.lpush("reelvec:reelvec", ours(1), ours(2))
    consumer.until(lambda: consumer.taken == [1, 2])
    consumer.connection.close()
    assert client.llen("reelvec:reelvec") == 0
    first, second = consumer.unacknowledged
    first.ack()
    second.reject(requeue=True)
    assert consumer.channel.qos.can_consume()


def test_a_broker_that_refuses_is_asked_again(
    consumer: Consumer,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transport, "REFUSED_SECONDS", 0.01)
    client.set("reelvec:reelvec", "not a list")
    consumer.until(lambda: "refuses to give messages: 'WRONGTYPE" in caplog.text)
    client.delete("reelvec:reelvec")
    client.lpush("reelvec:reelvec", ours(3))
    consumer.until(lambda: consumer.taken == [3])


def test_a_full_broker_can_be_consumed_from(app: Celery, client: redis.Redis) -> None:
    client.lpush("reelvec:reelvec", ours(4))
    client.config_set("maxmemory", 1)
    try:
        consumer = Consumer(app)
        consumer.until(lambda: consumer.taken == [4])
        consumer.unacknowledged[0].ack()
        consumer.close()
    finally:
        client.config_set("maxmemory", 0)
