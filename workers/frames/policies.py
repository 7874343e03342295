"""What a sampler node knows of models: how the frames they want are sampled. It loads none."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine as Database

from db import encoders, session
from db.jobs.abilities import Ability
from db.ledger import Claim


class Policies:
    """In the place of `workers.models.Models` where nothing is computed. Safe to use from all
    threads.
    """

    #: It samples for every model there is.
    ability = Ability()

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}

    def owed(self, claimed: Claim) -> list[str]:
        """The sampling policies of what a video owes. Raises `UnavailableError`."""
        key = (claimed.encoders, claimed.taggers)
        if key not in self._known:
            with session.transaction(self._database) as connection:
                self._known[key] = encoders.policies_of(connection, *key)
        return self._known[key]

    def look(self) -> None:
        """There are no weights to look for."""

    def check(self) -> None:
        """There is nothing that could drift."""

    def wrote(self, encoder_ids: Iterable[int]) -> None:
        """It writes no vectors."""
