"""Asking a broker that is there in no ordinary way. A real one is asked in
tests/acceptance/test_status.py.
"""

from __future__ import annotations

import socket
import time

import pytest

from producer.status import broker
from producer.status.broker import Question, ask, client_url


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("redis://:pw@h:1/2", "redis://:pw@h:1/2"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=none"),
        (
            "redis://h:1/0?ssl_cert_reqs=none",
            "rediss://h:1/0?ssl_cert_reqs=none",
        ),  # TLS, as Celery has it
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=none"),
        ("redis:///1", "redis:///1"),
        ("redis+socket:///run/x.sock?virtual_host=3", "unix:///run/x.sock?db=3"),
        ("redis+socket://:pw@/run/x.sock", "unix://:pw@/run/x.sock?db=0"),
    ],
)
def test_addresses_in_the_clients_words(ours: str, theirs: str) -> None:
    assert client_url(ours) == theirs


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        seen = ask(f"redis://:secret@127.0.0.1:{taken.getsockname()[1]}/0")
    assert seen.messages is None
    assert "refused" in (seen.error or "")
    assert "secret" not in f"{seen.address} {seen.error}"


def test_the_next_broker_is_asked_where_the_first_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_one(url: str, shown: str) -> broker.Broker:
        return (
            broker.Broker(shown, messages=7)
            if url == "redis://b:1/0"
            else broker.Broker(shown, error="away")
        )

    monkeypatch.setattr(broker, "_ask_one", ask_one)
    assert ask("redis://a:1/0;redis://b:1/0") == broker.Broker(
        "redis://a:1/0;redis://b:1/0", messages=7
    )
    assert ask("redis://a:1/0;redis://c:1/0").error == "away"


def test_one_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seen = ask(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    assert "imeout" in (seen.error or "")


def test_whatever_hangs_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(broker, "ask", lambda url: time.sleep(30))
    assert "has not answered" in (Question("redis://:pw@h").answer().error or "")


@pytest.mark.parametrize(
    "url", ["redis://h:1/0?no_such_option=1", "redis://h:1/?socket_timeout=soon"]
)
def test_an_address_the_client_cannot_read_is_an_answer(url: str) -> None:
    assert ask(url).error
