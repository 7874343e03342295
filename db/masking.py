"""What stands between a secret and whoever reads a line, a message or a row: passwords in
addresses, signatures, tokens and keys become `***`.
"""

from __future__ import annotations

import re

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
