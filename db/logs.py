"""Log lines on stderr without secrets: addresses, presigned query strings and access keys are
masked.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import traceback
from types import TracebackType

from db import known_secrets

MASK = "***"

#: Addresses of our own two services. Loose on purpose: SQLAlchemy takes a raw "/" in a password, so
#: a mask must reach the last "@" of the word; a file name with "@" cannot follow there.
_SERVICE_LOGIN = re.compile(
    r"\b((?:postgres(?:ql)?|rediss?)(?:\+\w+)?://)([^:/\s@]*)(:(?:(?!;\w+://)\S)*|[^/?#\s]*)@",
    re.IGNORECASE,
)
#: Any other address: only what stands before the first "/", because object names may hold "@".
_OTHER_LOGIN = re.compile(
    r"\b([a-z][a-z0-9+.-]{0,30}://)([^:/?#\s@]*)(:[^/?#\s]*|[^/?#\s]*)@", re.IGNORECASE
)
_SECRET_PARAMETER = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|awsaccesskeyid|signature|token|password|sslpassword)=)"
    r"[^&#\s\"'<>]+",
    re.IGNORECASE,
)
_SECRET_WORD = re.compile(
    r"\b(\w*(?:password|passwd|session_token|secret_access_key|secret_key)[\"']?\s*[=:]\s*[\"']?)"
    r"[^&\s\"',;)}]+",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"\b(authorization[\"']?\s*[:=]\s*[\"']?(?:[\w-]+ +)?|bearer +(?=\S*\d))[^\s\"',;)}]+",
    re.IGNORECASE,
)
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")


def _mask_login(match: re.Match[str]) -> str:
    scheme, user, password = match.groups()
    if password == ":password":  # noqa: S105 - how our own sentences show the form of an address
        return match.group(0)
    if password:
        return f"{scheme}{user}:{MASK}@" if user else f"{scheme}{MASK}@"
    # A lone name before "@" is a login name for Postgres and an access token nearly everywhere
    # else.
    return match.group(0) if scheme.lower().startswith("postgres") else f"{scheme}{MASK}@"


def mask(text: str) -> str:
    """`text` with `***` for every secret this process was given, every password in an address,
    signature and token.
    """
    text = known_secrets.masked(text, MASK)
    text = _SECRET_PARAMETER.sub(
        rf"\g<1>{MASK}", text
    )  # before a login, which may reach into the query
    text = _SERVICE_LOGIN.sub(_mask_login, text)
    text = _OTHER_LOGIN.sub(_mask_login, text)
    text = _SECRET_WORD.sub(rf"\g<1>{MASK}", text)
    text = _AUTHORIZATION.sub(rf"\g<1>{MASK}", text)
    return _ACCESS_KEY.sub(MASK, text)


def mask_url(url: str) -> str:
    """One address, fit to be shown: the user stays, the password and secret query parameters do
    not.
    """
    return mask(re.sub(r"\s", "%20", url.strip()))  # a space would end what is taken for a password


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

    from db.errors import UsageError  # whose messages are masked here

    try:
        return WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the log file {path} cannot be written: {error.strerror}") from error


def configure_logging(level: str | int = "INFO", file: str | None = None) -> None:
    """Send everything from `level` up to stderr, or to `file`, as plain lines with UTC time,
    masked.

    A second call replaces the first. Errors that end the process or a thread are masked, too.
    Raises `ValueError` for an unknown level, `UsageError` for a file that cannot be written.
    """
    formatter = logging.Formatter(
        "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr) if file is None else _to_file(file)
    handler.set_name("reelvec")
    handler.setFormatter(formatter)
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
