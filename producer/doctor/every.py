"""All checks, in the order in which they are shown."""

from __future__ import annotations

from producer.doctor import (
    broker,
    configuration,
    data,
    fleet,
    machine,
    models,
    packages,
    postgres,
    python,
    storage,
)
from producer.doctor.check import Check


def checks(source: str | None) -> list[Check]:
    """Everything but the rows. `source`: the one given on the command line."""
    return [
        *python.checks(),
        *configuration.checks(),
        *postgres.checks(),
        *broker.checks(),
        *fleet.checks(),
        *storage.checks(source),
        *models.checks(),
        *packages.checks(),
        *machine.checks(),
    ]


def data_checks() -> list[Check]:
    return data.checks()
