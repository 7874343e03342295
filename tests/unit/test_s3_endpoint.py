"""Which S3 service the environment names, and what is said of a value that names none."""

from __future__ import annotations

import pytest

from db.errors import UsageError
from workers.sources.s3_endpoint import VARIABLES, endpoint


@pytest.mark.parametrize(
    "value",
    [
        "http://ann:s3cret@host",
        "ann:s3cret@host:9000",
        "http://ann:s3/cret@host",
        "https://s3cret@[host",
    ],
)
def test_a_login_in_the_endpoint_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", value)
    with pytest.raises(
        UsageError, match=r"AWS_ENDPOINT_URL_S3 has a user name or password .*AWS_SECRET_ACCESS_KEY"
    ) as caught:
        endpoint()
    assert not any(word in str(caught.value) for word in ("ann", "s3cret", "cret"))


@pytest.mark.parametrize(
    "value", ["https://host/path", "ftp://host", "https://host:port", "https://[host", "https://"]
)
def test_what_is_no_address_is_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", value)
    with pytest.raises(UsageError, match="is no address of an S3 service") as caught:
        endpoint()
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", ["http://ann:s3cret%40host", "http://ann:s3cret%40host:9000/"])
def test_a_login_that_is_percent_encoded_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", value)
    with pytest.raises(UsageError, match="is no address of an S3 service") as caught:
        endpoint()
    assert "s3cret" not in str(caught.value)
