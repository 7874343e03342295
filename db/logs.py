"""Log lines without secrets, for people or, on request, for machines; one line a record."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from types import TracebackType

from db.errors import UsageError
from db.masking import mask

#: What moves a terminal's cursor or turns its text around; a name of a file may hold it.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def _one_record(text: str) -> str:
    """Only a record begins at the beginning of a line: what a message quotes cannot pass for
    another one.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text).replace("\n", "\n  ")


class RedactionFilter(logging.Filter):
    """Masks message, exception and stack of every record that passes. Install it on handlers, not
    on loggers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask `record` in place; never drops one."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  (a wrong format string must not end the program, nor leak its arguments)
            text = f"{record.msg} {record.args}"
        record.msg, record.args = _one_record(mask(text)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        if record.stack_info:
            record.stack_info = mask(record.stack_info)
        return True


def print_exception(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """What Python prints of an error nobody caught, masked. Fit to be `sys.excepthook`."""
    print(mask("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)  # noqa: T201


def _to_file(path: str) -> logging.Handler:
    """Opened anew when logrotate has moved it away."""
    from logging.handlers import WatchedFileHandler

    try:
        return WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the log file {path} cannot be written: {error.strerror}") from error


#: What a line of a worker may say beside its words, for those who filter by it.
FIELDS = ("action", "video_id", "code", "seconds")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `message`, what is known of `FIELDS`, and
    `exception` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record, which a `RedactionFilter` has passed."""
        said = {
            "at": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name, None) for name in FIELDS},
            "exception": record.exc_text,
        }
        return json.dumps(
            {name: value for name, value in said.items() if value is not None}, default=str
        )


def _formatter() -> logging.Formatter:
    """REELVEC_LOG=json asks for JSON (`db.settings` checks the value); plain lines otherwise."""
    kind = JsonFormatter if os.environ.get("REELVEC_LOG") == "json" else logging.Formatter
    made = kind("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    made.converter = time.gmtime
    return made


def configure_logging(level: str | int = "INFO", file: str | None = None) -> None:
    """Send everything from `level` up to stderr, or to `file`, with UTC time, masked: as plain
    lines, or as JSON where REELVEC_LOG asks for it.

    A second call replaces the first. Errors that end the process or a thread are masked, too.
    Raises `ValueError` for an unknown level, `UsageError` for a file that cannot be written.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else _to_file(file)
    handler.set_name("reelvec")
    handler.setFormatter(_formatter())
    handler.addFilter(RedactionFilter())
    root = logging.getLogger()
    root.setLevel(level)
    for old in [known for known in root.handlers if known.get_name() == "reelvec"]:
        root.removeHandler(old)
        if isinstance(old, logging.FileHandler):
            old.close()
    root.addHandler(handler)
    sys.excepthook = print_exception
    threading.excepthook = lambda ended: print_exception(
        ended.exc_type, ended.exc_value, ended.exc_traceback
    )
