"""Selectors: what each form means, and what is refused."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from db.errors import UsageError
from db.jobs.selection import Selection, condition
from producer.selectors import Selectors


def prefix(source: str) -> str | None:
    return Selectors(None, None, source, None).parsed().uri_prefix


def since(text: str) -> datetime | timedelta | None:
    return Selectors(None, None, None, text).parsed().since


def test_nothing_asked_is_everything() -> None:
    assert Selectors(None, None, None, None).parsed() == Selection()
    assert condition(Selection(), moment="j.finished_at") == ("", {})


def test_a_category_is_its_slug_and_what_was_written() -> None:
    assert Selectors(["Фильмы", "48.0"], None, None, None).parsed().categories == (
        "Фильмы",
        "films",
        "48.0",
        "films",
    )
    assert Selectors(["my own"], None, None, None).parsed().categories == ("my own",)


def test_codes_are_checked() -> None:
    assert Selectors(None, ["truncated", "poison"], None, None).parsed().codes == (
        "truncated",
        "poison",
    )
    with pytest.raises(UsageError, match="did you mean truncated"):
        Selectors(None, ["trunkated"], None, None).parsed()
    with pytest.raises(UsageError, match="known: access_denied, "):
        Selectors(None, ["qqq"], None, None).parsed()


def test_sources_are_the_beginning_of_canonical_uris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "48.0_my films").mkdir()
    here = f"file://{tmp_path}"
    assert prefix("48.0_my films") == f"{here}/48.0_my%20films/", (
        "a folder, not one beside it that begins like it"
    )
    assert prefix("48") == f"{here}/48"
    assert prefix("gone/") == f"{here}/gone/"
    assert prefix("file:///data/a b/") == "file:///data/a%20b/"
    assert prefix("s3://bucket") == "s3://bucket/"
    assert prefix("s3://bucket/a b/с") == "s3://bucket/a b/с"
    assert prefix("https://HOST.example:443/v?token=x") == "https://host.example/v"


def test_an_address_on_the_s3_endpoint_is_an_s3_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example")
    assert prefix("https://s3.example/bucket/films") == "s3://bucket/films"


@pytest.mark.parametrize("source", ["", "ftp://host/x", "s3://"])
def test_sources_in_no_known_form(source: str) -> None:
    with pytest.raises(UsageError, match=r"--source: .*s3://bucket/prefix"):
        prefix(source)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        (" 1 w ", timedelta(weeks=1)),
    ],
)
def test_since_ago(text: str, ago: timedelta) -> None:
    assert since(text) == ago


def test_since_a_moment_has_a_time_zone() -> None:
    assert since("2026-01-31") == datetime(2026, 1, 31).astimezone()
    assert since("2026-01-31T18:00+03:00") == datetime.fromisoformat("2026-01-31T18:00+03:00")


def test_a_moment_beyond_all_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setenv("TZ", "America/New_York")
        time.tzset()
        with pytest.raises(UsageError):
            since("9999-12-31T23:59")
    time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2", "h", "-2h", "2x", "123456d", "2026-13-01", "0001-01-01"]
)
def test_since_in_no_known_form(text: str) -> None:
    with pytest.raises(UsageError, match="2h, 3d"):
        since(text)


def test_the_condition_asks_only_what_was_asked() -> None:
    sql, facts = condition(
        Selection(codes=("truncated",), since=timedelta(hours=2)), moment="j.enqueued_at"
    )
    assert (
        sql == " AND j.error_code = ANY(CAST(:codes AS text[])) AND j.enqueued_at >= now() - "
        "CAST(:since AS interval)"
    )
    assert facts == {"codes": ["truncated"], "since": timedelta(hours=2)}
