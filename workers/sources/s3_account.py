"""Which S3 service is meant and as whom: the environment's standard variables, the profile's files,
the instance's role.
"""

from __future__ import annotations

import configparser
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from minio.credentials.credentials import Credentials
from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider, StaticProvider
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from db import known_secrets
from db.errors import RefusedConfigurationError
from workers.sources.s3_endpoint import Endpoint, endpoint

#: Where there is no instance role, nobody answers: this long is waited, and this long not asked
#: again.
ROLE_SECONDS = 1.0
ROLE_AGAIN_SECONDS = 60.0
_CONTAINER_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True)
class Account:
    """`host`: of the service, with its port. `region` None: the one a bucket turns out to be in.
    `credentials`: who we are.

    `asked`: which service that is, for messages.
    """

    host: str
    secure: bool
    region: str | None
    credentials: Chain
    asked: str = ""


class Chain(Provider):
    """Keys from environment, else the profile, else the instance's or container's role; else
    requests are not signed.

    The role's provider keeps its keys and renews them before they end.
    """

    def __init__(self, providers: dict[str, Provider]) -> None:
        self._providers = providers
        self._again_at = 0.0
        self.source = "not looked for yet"

    def retrieve(self) -> Credentials | None:  # type: ignore[override]  # None is minio's word for anonymous
        if time.monotonic() < self._again_at:
            return None
        for name, provider in self._providers.items():
            try:
                found = provider.retrieve()
            except (ValueError, HTTPError, OSError):  # it has none
                continue
            self.source = name
            known_secrets.remember(
                "S3 account", (found.access_key, found.secret_key, found.session_token)
            )
            return found
        self.source = "anonymous"
        self._again_at = time.monotonic() + ROLE_AGAIN_SECONDS
        return None


def own_account(where: Endpoint | None, keys: tuple[str, str] | None, region: str) -> Account:
    """An account that is not the sources': another service, other keys, or both; what is not given
    is as `account` has it. `region`: empty where none is named. Raises as `account`.
    """
    usual = account(where)
    credentials = usual.credentials if keys is None else Chain({"own": StaticProvider(*keys)})
    return replace(usual, region=region or usual.region, credentials=credentials)


def account(where: Endpoint | None = None) -> Account:
    """The account of this process's environment, for the service it names or for another.

    Raises `UsageError` for an endpoint that is no address, `RefusedConfigurationError` for half a
    pair of keys or a profile without keys.
    """
    where = where or endpoint()
    profile = _profile()
    region = (
        os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or profile.get("region")
    )
    providers: dict[str, Provider] = {"environment": EnvAWSProvider()}
    if key := profile.get("aws_access_key_id"):
        secret = profile.get("aws_secret_access_key", "")
        providers["profile"] = StaticProvider(key, secret, profile.get("aws_session_token"))
    asks_instance = (
        where.is_aws and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"
    )
    if asks_instance or any(os.environ.get(name) for name in _CONTAINER_VARIABLES):
        # a role's keys are AWS's: another service gets them only where a container says that they
        # are for it
        providers["role"] = IamAwsProvider(http_client=_role_client(), region=region)
    if not region and not where.is_aws:
        region = "us-east-1"  # what other services call theirs
    return Account(where.host, where.secure, region, Chain(providers), where.asked)


def _role_client() -> PoolManager:
    return PoolManager(timeout=Timeout(ROLE_SECONDS), retries=Retry(total=1, backoff_factor=0.1))


def _keys_in_environment() -> bool:
    """Whether both keys are set. Raises `RefusedConfigurationError` for one without the other."""
    key = os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_ACCESS_KEY")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY") or os.environ.get("AWS_SECRET_KEY")
    if bool(key) != bool(secret):
        there, missing = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        if secret:
            there, missing = missing, there
        raise RefusedConfigurationError(
            f"{there} is set but {missing} is not: set both, or unset both"
        )
    return bool(key)


def _profile() -> dict[str, str]:
    """What the files say of the profile in use. Raises `RefusedConfigurationError` if one was named
    that has no keys.
    """
    has_keys = _keys_in_environment()
    name = os.environ.get("AWS_PROFILE")
    home = Path.home() / ".aws"
    credentials = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials")
    config = Path(os.environ.get("AWS_CONFIG_FILE") or home / "config")
    found: dict[str, str] = {}
    for path in (config, credentials):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as error:
            raise RefusedConfigurationError(f"{path} cannot be read: {error}") from error
        for section in (name or "default", f"profile {name or 'default'}"):
            if parser.has_section(section):
                found |= dict(parser.items(section))
    if name and "aws_access_key_id" not in found and not has_keys:
        raise RefusedConfigurationError(
            f"AWS_PROFILE={name} has no keys in {credentials}; for single sign-on or an assumed "
            f"role run `aws configure export-credentials --profile {name} --format env` and export "
            "what it prints"
        )
    return found
