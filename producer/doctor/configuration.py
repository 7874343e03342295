"""What the environment says: variables, and which database and broker it means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from db.errors import NoStackError, ReelvecError, UsageError
from producer.doctor.check import Check, Finding, fail, failed_with, ok, warn

if TYPE_CHECKING:
    from db.stack.addresses import Addresses

GROUP = "Settings"


def checks() -> list[Check]:
    return [Check(GROUP, "variables", variables), Check(GROUP, "addresses", addresses)]


def variables() -> Iterator[Finding]:
    """Every mistyped name and every bad value, not only the first."""
    from db import settings
    from producer.settings import ProducerSettings
    from workers.settings import WorkerSettings, known_variables

    known = known_variables()
    unknown = {
        name for name in os.environ if name.startswith(settings.PREFIX) and name not in known
    }
    problems = 0
    for name in sorted(unknown):
        try:
            settings.refuse_unknown_variables(known | unknown - {name})
        except UsageError as error:
            problems += 1
            yield failed_with("variables", error, advice_after="; ")
    for settings_class in (settings.DatabaseSettings, WorkerSettings, ProducerSettings):
        try:
            settings.load(settings_class)
        except UsageError as error:
            problems += 1
            yield fail("variables", str(error), "docs/configuration.md says what it may be")
    if not problems:
        count = sum(name in known for name in os.environ)
        yield ok(
            "variables",
            f"{count} of reelvec's own set, all known" if count else "none of reelvec's own set",
        )


def addresses() -> Iterator[Finding]:
    from db.stack import addresses as rules
    from db.stack.local_stack import LocalStack, default_data_dir

    try:
        where = rules.resolve(start=False)
    except NoStackError as error:
        yield failed_with("addresses", error, advice_after=". Either ")
        return
    except ReelvecError as error:
        yield failed_with("addresses", error)
        return
    if not where.local:
        yield ok(
            "addresses",
            f"{rules.describe(where)}, from {' and '.join(rules.configured_variables())}",
        )
        return
    folder = default_data_dir()
    if LocalStack(folder).state() is None:
        yield warn(
            "addresses",
            f"the local stack in {folder} is stopped",
            "reelvec up starts it; so do enqueue and worker",
        )
    else:
        yield ok("addresses", f"{rules.describe(where)}, in {folder}")


def servers() -> Addresses | None:
    """The addresses, if there is something to ask: None while they are wrong or the local stack is
    down.
    """
    from db.stack import addresses as rules
    from db.stack.local_stack import LocalStack, default_data_dir

    try:
        where = rules.resolve(start=False)
    except ReelvecError:  # said by `addresses`
        return None
    return None if where.local and LocalStack(default_data_dir()).state() is None else where
