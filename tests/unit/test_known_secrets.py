"""A secret is masked by its value, in whatever form and wherever a library quotes it."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest

from db import known_secrets
from db.errors import VideoError
from db.masking import mask

SECRET = "c4n4ry p@ss/w'rd#1"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*known_secrets.SECRET_VARIABLES, *known_secrets.ADDRESS_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(known_secrets, "_remembered", {})


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET).lower(),
        quote_plus(SECRET),
        repr(SECRET)[1:-1],
        SECRET.upper(),
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", 'could not translate host name "{}"', "%3A{}%40host", "x{}x"]
)
def test_every_form_is_masked_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, form: str, around: str
) -> None:
    text = around.format(form)
    assert "4ry" in mask(text) or "4RY" in mask(text)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert mask(text) == around.format("***")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://ann:c4n4ry%2Fpw@db/v"),
        ("REELVEC_DATABASE_URL", "postgresql://ann:c4n4ry/pw@db/v"),
        ("DATABASE_URL", "postgresql:///v?host=db&password=c4n4ry%2Fpw"),
        ("CELERY_BROKER_URL", "redis://:other@a:1/0;rediss://:c4n4ry/pw@b:2/0"),
        ("AWS_ENDPOINT_URL_S3", "ann:c4n4ry/pw@store"),
        ("HTTPS_PROXY", "http://c4n4ry/pw@proxy:3128"),
        ("HF_TOKEN", "c4n4ry/pw"),
    ],
)
def test_the_password_of_every_address_is_known(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert (
        mask("no host named c4n4ry/pw, nor c4n4ry%2Fpw, nor x")
        == "no host named ***, nor ***, nor x"
    )


def test_what_is_remembered_is_masked_until_something_newer_takes_its_place() -> None:
    known_secrets.remember("S3 account", ["first-key", None])
    assert mask("first-key second-key") == "*** second-key"
    known_secrets.remember("S3 account", ["second-key"])
    assert mask("first-key second-key") == "first-key ***"


def test_two_that_overlap_are_both_covered() -> None:
    known_secrets.remember("one", ["abcdefgh"])
    known_secrets.remember("other", ["efghijklmn"])
    assert mask("xabcdefghijklmnx abcdefgh") == "x***x ***"


def test_words_of_ours_short_ones_and_parts_of_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "reelvec")
    monkeypatch.setenv("HF_TOKEN", "video")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "123456")
    assert (
        mask("reelvec embeds video 1234567, not 123456") == "reelvec embeds video 1234567, not ***"
    )


def test_an_error_of_ours_never_says_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    error = VideoError("internal", f"OSError: {SECRET} in postgresql://ann:other1@h/v", stage="run")
    assert str(error) == "OSError: *** in postgresql://ann:***@h/v"
