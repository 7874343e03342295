"""No secret reaches a log line."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import known_secrets
from db.logs import RedactionFilter, configure_logging
from db.masking import mask, mask_url


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_secrets, "_remembered", {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg2://ann:s3cret@db:5432/v", "postgresql+psycopg2://ann:***@db:5432/v"),
        ("postgres://ann:a/b@c@db/v?sslmode=require", "postgres://ann:***@db/v?sslmode=require"),
        ("postgresql://ann@db/v", "postgresql://ann@db/v"),
        ("postgresql:///v?host=/run&password=s3cret", "postgresql:///v?host=/run&password=***"),
        ("postgresql://db:5432/v?password=p@s3cret", "postgresql://db:5432/v?password=***"),
        ("redis://:s3cret@h:6379/0", "redis://***@h:6379/0"),
        ("rediss://ann:s3%40cret@h/0", "rediss://ann:***@h/0"),
        ("redis://:s3/cret@h", "redis://***@h"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("postgresql://ann:p@ss/w0rd#1@db/v", "postgresql://ann:***@db/v"),
        ("postgresql://ann:p w?x@db/v", "postgresql://ann:***@db/v"),
        ("redis://:p/1@a:1/0;rediss://:p#2@b:2/0", "redis://***@a:1/0;rediss://***@b:2/0"),
        (
            "redis+socket://:s3cret@/run/v.sock?virtual_host=0",
            "redis+socket://***@/run/v.sock?virtual_host=0",
        ),
        ("https://s3cret@files.example.com/a.mp4", "https://***@files.example.com/a.mp4"),
        (
            "https://files.example.com:8443/films/@channel/a.mp4",
            "https://files.example.com:8443/films/@channel/a.mp4",
        ),
        ("s3://bucket/films/ann:b@channel/a.mp4", "s3://bucket/films/ann:b@channel/a.mp4"),
    ],
)
def test_masks_one_address_and_leaves_names_alone(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "name", ["X-Amz-Signature", "x-amz-credential", "X-Amz-Security-Token", "Signature", "token"]
)
def test_masks_presigned_query_strings(name: str) -> None:
    text = mask(
        f"GET https://s3.example.com/b/a.mp4?partNumber=2&{name}=s3cret%2Fx&X-Amz-Expires=60 failed"
    )
    assert "s3cret" not in text
    assert "partNumber=2" in text
    assert "X-Amz-Expires=60 failed" in text


def test_masks_keys_and_named_secrets_but_not_a_fencing_token() -> None:
    # Put together here, so that no scanner takes this file for a leak.
    key = "AKIA" + "IOSFODNN7EXAMPLE"
    text = mask(
        f"key {key}, AWS_SECRET_ACCESS_KEY=s3cret, {{'password': 's3cret'}}, token=17, password "
        "authentication"
    )
    assert "s3cret" not in text
    assert key not in text
    assert "token=17" in text
    assert text.endswith("password authentication")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer s3cret.x", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic czNjcmV0'}", "{'authorization': 'Basic ***'}"),
        ("curl -H bearer s3cret.x", "curl -H bearer ***"),
        ("a bearer of bad news", "a bearer of bad news"),
    ],
)
def test_masks_what_a_header_proves_itself_with(text: str, shown: str) -> None:
    assert mask(text) == shown


@pytest.fixture
def restored_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored_root")
def test_what_ends_a_process_or_a_thread_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    url = "redis://:{}@h".format("s3cret")  # so that the traceback's source line does not hold it

    def fails() -> None:
        raise ConnectionError(f"cannot reach {url}")

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    with pytest.raises(ConnectionError) as caught:
        fails()
    sys.excepthook(caught.type, caught.value, caught.tb)
    told = capsys.readouterr().err
    assert told.count("ConnectionError: cannot reach redis://***@h") == 2
    assert "s3cret@" not in told


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("restored_root", "far_from_utc")
def test_times_are_utc(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    record = logging.LogRecord("n", logging.WARNING, __file__, 1, "a line", None, None)
    record.created = 0.0
    logging.getLogger().handle(record)
    assert capsys.readouterr().err == "1970-01-01T00:00:00Z WARNING n: a line\n"


@pytest.mark.usefixtures("restored_root")
def test_configured_lines_are_masked_and_not_doubled(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    configure_logging("INFO")  # a second call must not double the lines
    log = logging.getLogger("reelvec.test")
    log.info("connecting to %s", "redis://:s3cret@h:6379/0")
    log.debug("not shown")
    try:
        raise ConnectionError("cannot reach postgresql://ann:s3cret@db/v")
    except ConnectionError:
        log.exception("gave up", stack_info=True)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO reelvec.test: connecting to redis://\*\*\*@h:6379/0",
        lines[0],
    )
    assert "ConnectionError: cannot reach postgresql://ann:***@db/v" in lines
    assert "s3cret" not in "\n".join(line for line in lines if "raise " not in line)
    assert sum("connecting" in line for line in lines) == 1
    assert not any("not shown" in line for line in lines)


def test_source_lines_of_a_traceback_are_masked_too() -> None:
    try:
        raise ConnectionError("redis://:s3cret@h")
    except ConnectionError:
        record = logging.LogRecord("n", logging.ERROR, __file__, 1, "x", None, sys.exc_info())
    RedactionFilter().filter(record)
    assert "s3cret" not in logging.Formatter().format(record)


def test_a_wrong_format_string_still_gives_a_masked_line() -> None:
    record = logging.LogRecord(
        "n", logging.INFO, __file__, 1, "%d of %s", ("redis://:s3cret@h",), None
    )
    assert RedactionFilter().filter(record)
    assert "redis://***@h" in record.getMessage()


def test_what_a_message_quotes_cannot_pass_for_another_record() -> None:
    quoted = "a.mp4\n2026-01-01T00:00:00Z INFO all is well\x1b[2K\r\u202e"
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "cannot read %s", (quoted,), None)
    RedactionFilter().filter(record)
    assert record.getMessage() == (
        "cannot read a.mp4\n  2026-01-01T00:00:00Z INFO all is well\\x1b[2K\\r\\u202e"
    )


def test_json_lines_carry_the_fields_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REELVEC_LOG", "json")
    path = tmp_path / "lines"
    handlers, hooks = list(logging.getLogger().handlers), (sys.excepthook, threading.excepthook)
    try:
        configure_logging("INFO", str(path))
        log = logging.getLogger("celery.worker")
        log.info(
            "video %d: done\nat postgres://me:pw@db/x", 7, extra={"video_id": 7, "seconds": 0.5}
        )
        try:
            raise ValueError("token=hush")
        except ValueError:
            log.exception("unexpected", extra={"code": "internal"})
    finally:
        configure_logging("WARNING")
        logging.getLogger().handlers[:] = handlers
        sys.excepthook, threading.excepthook = hooks
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["video_id"], first["seconds"], first["level"]) == (7, 0.5, "INFO")
    assert first["logger"] == "celery.worker"
    assert "***@db" in first["message"]
    assert "pw" not in first["message"]
    assert "code" not in first
    assert second["code"] == "internal"
    assert "ValueError" in second["exception"]
