"""How much the broker may hold, and what is said when it does not answer."""

from __future__ import annotations

import pytest
from kombu import exceptions as kombu
from redis import exceptions as redis

from db.errors import UnavailableError
from workers import feeder


def test_the_window_follows_the_fleet_within_bounds() -> None:
    assert [feeder.window(in_flight) for in_flight in (0, 10, 11, 500, 100_000)] == [
        200,
        200,
        220,
        10_000,
        20_000,
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            redis.ConnectionError("Connection refused"),
            "does not answer: Connection refused. Check REELVEC_BROKER_URL",
        ),
        (redis.TimeoutError("Timeout"), "does not answer: Timeout"),
        (redis.BusyLoadingError("loading"), "does not answer: loading"),
        (
            redis.AuthenticationError("invalid password"),
            "refuses the login: invalid password. Check user and password",
        ),
        (
            redis.AuthenticationError("Authentication required."),
            "refuses the login: it asks for a password. Check user and password",
        ),
        (
            redis.AuthenticationWrongNumberOfArgsError("wrong number of arguments for 'auth'"),
            "refuses the login: wrong number of arguments",  # a server that has no users
        ),
        (redis.OutOfMemoryError("used memory > 'maxmemory'"), "refuses: used memory > 'maxmemory'"),
        (redis.ReadOnlyError("a replica"), "refuses: a replica"),
        (
            redis.NoPermissionError("no permissions"),
            "refuses: no permissions. Its user lacks a right: ACL SETUSER",
        ),
        (kombu.OperationalError("gone"), "does not answer: gone"),
        (ConnectionResetError("reset"), "does not answer: reset"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_the_broker_has_words_of_ours(error: Exception, said: str) -> None:
    with pytest.raises(UnavailableError, match=f"the broker {said}"), feeder.broker_errors():
        raise error
    with pytest.raises(UnavailableError, match=f"the broker {said}"), feeder.broker_errors():
        raise kombu.BatchPublishError("delivery is uncertain") from error
    with pytest.raises(UnavailableError, match=f"the broker {said}"), feeder.broker_errors():
        raise kombu.OperationalError("as kombu has it") from error
