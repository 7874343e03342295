"""The models of one worker: which it can load, as far as it has tried, and what of a video is to be
made with them.

Missing weights, or other ones than an encoder is bound to, cost this worker that encoder and the
fleet nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Iterable, Sequence

from sqlalchemy import Engine as Database

from db import encoders, session
from db.canary.references import Verdict
from db.encoders import Encoder, Tagger
from db.errors import RefusedConfigurationError, UsageError
from db.jobs.abilities import Ability
from db.ledger import Claim
from workers.backbones import registry
from workers.canary.check import CanaryWatch
from workers.engine.engine import ModelKey
from workers.pipeline import Owed
from workers.sampling import policies
from workers.settings import WorkerSettings
from workers.tally import Tally
from workers.weights import inventory, models_dir
from workers.weights.bucket import Bucket

log = logging.getLogger(__name__)


class NothingToMakeError(Exception):
    """Nothing that a video owes can be made by this worker, as it has just found out."""


class Models:
    """A model that could not be loaded is not tried again by this process before its files are
    others: weights may still come, and a copy of them be finished.

    `canary` loads them and checks what they compute; `database` knows the encoders. Safe to use
    from all threads. Raises as `look` does.
    """

    def __init__(
        self, database: Database, canary: CanaryWatch, settings: WorkerSettings, tally: Tally
    ) -> None:
        self._database = database
        self._canary = canary
        self._settings = settings
        self._tally = tally
        self._where = models_dir.resolve(settings)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._encoders: dict[int, Encoder] = {}
        self._taggers: dict[int, Tagger] = {}
        self._failed: dict[str, tuple[str, Hashable | None]] = {}
        self._refused: dict[int, str] = {}
        self._looked = False
        self._held: dict[str, Hashable] = {}
        self._names: set[str] = set()
        self.look()

    def look(self) -> None:
        """Look which weights are there now, and whether those that could not be loaded are others
        by now. A bucket is asked once. Raises as `inventory.versions` does.
        """
        if isinstance(self._where, Bucket) and self._looked:
            return
        self._looked = True
        held = inventory.versions(self._where)
        names = inventory.loadable(held, self._settings.license)
        with self._lock:
            failed = {
                model
                for model, (backbone, version) in self._failed.items()
                if held.get(backbone) == version
            }
            self._held, self._names = held, names - failed

    @property
    def ability(self) -> Ability:
        """What this worker says of itself, and claims by."""
        with self._lock:
            refused = {*self._refused, *self._canary.barred()}
            return Ability(tuple(sorted(self._names)), tuple(sorted(refused)))

    def load_all(self, wanted: Sequence[Encoder]) -> None:
        """Load those that can be. Raises the first reason where that is none, and no other weights
        are here either.

        Then whoever started this worker should know. With others it waits: tomorrow's videos may be
        for it.
        """
        errors = [error for encoder in wanted if (error := self._try(encoder)) is not None]
        if errors and len(errors) == len(wanted) and not self._holds_weights():
            raise errors[0]

    def check(self) -> None:
        """A round of the canary. Raises `RefusedConfigurationError` if it leaves nothing to make,
        `UnavailableError`.
        """
        self._canary.round()
        barred = self._canary.barred()
        for encoder_id, judgement in barred.items():
            self._tally.trouble(self._encoders[encoder_id].name, judgement.reason)
        if (
            barred
            and self._refused_by_canary() == set(self._encoders)
            and not self._holds_weights()
        ):
            encoder_id, judgement = next(iter(barred.items()))
            raise RefusedConfigurationError(_refusal(self._encoders[encoder_id], judgement.reason))

    def require(self, owed: Sequence[Owed]) -> None:
        """Raise `NothingToMakeError` if one of these encoders was barred since it was owed."""
        if any(one.encoder.encoder_id in self._canary.barred() for one in owed):
            raise NothingToMakeError

    def wrote(self, encoder_ids: Iterable[int]) -> None:
        """A video's vectors are committed."""
        self._canary.wrote(encoder_ids)

    def owed(self, claimed: Claim) -> list[Owed]:
        """The encoders to run, loaded and bound: those without a vector, and those whose scores a
        tagger lacks.

        One that cannot be loaded is left to other workers. Raises `NothingToMakeError` if that
        leaves nothing, `UnavailableError`.
        """
        if not set(claimed.taggers) <= self._taggers.keys():
            self._learn_taggers(claimed.taggers)
        taggers = [
            self._taggers[tagger_id] for tagger_id in claimed.taggers if tagger_id in self._taggers
        ]
        wanted = list(
            dict.fromkeys([*claimed.encoders, *(tagger.encoder_id for tagger in taggers)])
        )
        if not set(wanted) <= self._encoders.keys():
            self._learn_encoders(wanted)
        barred = self._canary.barred()
        owed = [
            Owed(
                self._encoders[encoder_id],
                tuple(tagger for tagger in taggers if tagger.encoder_id == encoder_id),
            )
            for encoder_id in wanted
            if encoder_id in self._encoders and encoder_id not in barred
        ]
        if wanted and not owed:
            raise NothingToMakeError
        return owed

    def _learn_taggers(self, tagger_ids: Iterable[int]) -> None:
        with self._loading, session.transaction(self._database) as connection:
            if missing := set(tagger_ids) - self._taggers.keys():
                self._taggers |= encoders.fetch_taggers(connection, missing)

    def _learn_encoders(self, encoder_ids: Iterable[int]) -> None:
        """Load those that were never met; one thread does, and others that need them wait."""
        with self._loading:
            missing = set(encoder_ids) - self._encoders.keys()
            with session.transaction(self._database) as connection:
                fetched = encoders.fetch_encoders(connection, missing) if missing else {}
            for encoder in fetched.values():
                self._try(encoder)

    def _try(self, encoder: Encoder) -> RefusedConfigurationError | UsageError | None:
        """Load an encoder, or leave it to other workers from now on and say why; returns the
        reason.
        """
        try:
            self._load(encoder)
        except (RefusedConfigurationError, UsageError) as error:
            log.error("this worker goes on without %s: %s", encoder.name, error)
            self._tally.trouble(encoder.name, str(error))
            return error
        return None

    def _load(self, encoder: Encoder) -> None:
        """Load an encoder's weights, bind them to its row or refuse, and keep it.

        Raises `RefusedConfigurationError`, `UsageError` for a backbone or a sampling policy that
        this version does not know.
        """
        assert encoder.encoder_id is not None
        try:
            registry.refuse_license(encoder.backbone, self._settings.license)
            bound = self._canary.load(ModelKey(encoder.backbone, encoder.weights))
        except (RefusedConfigurationError, UsageError):
            with self._lock:
                if encoder.model in self._names:
                    self._names.discard(encoder.model)
                    self._failed[encoder.model] = (
                        encoder.backbone,
                        self._held.get(encoder.backbone),
                    )
            raise
        try:
            policies.get(encoder.sampling)  # one of another version, or that is gone
            known = inventory.provenance(
                encoder.backbone, encoder.weights, bound.digest, self._settings
            )
            with session.transaction(self._database) as connection:
                encoders.bind(
                    connection,
                    encoder,
                    weights_digest=bound.digest,
                    dim=bound.dim,
                    pooling=bound.pooling,
                    license=known.license,
                    origin=known.origin,
                )
        except (RefusedConfigurationError, UsageError):
            with self._lock:
                self._refused[encoder.encoder_id] = encoder.model
            raise
        judgement = self._canary.add(encoder, bound)
        self._encoders[encoder.encoder_id] = encoder
        if judgement.verdict is Verdict.REFUSED:
            raise RefusedConfigurationError(_refusal(encoder, judgement.reason))
        if judgement.verdict is Verdict.DISPUTED:
            log.warning("this worker waits with %s: %s", encoder.name, judgement.reason)
            self._tally.trouble(encoder.name, judgement.reason)
        log.info(
            "encoder %s: weights %s, %d dimensions, %s",
            encoder.name,
            bound.digest[:12],
            bound.dim,
            bound.pooling,
        )

    def _holds_weights(self) -> bool:
        """Whether weights were brought here that this worker has not failed with."""
        by_canary = {self._encoders[found].model for found in self._refused_by_canary()}
        with self._lock:
            held = inventory.brought(self._held)
            return bool(held & self._names - {*self._refused.values(), *by_canary})

    def _refused_by_canary(self) -> set[int]:
        return {
            encoder_id
            for encoder_id, judgement in self._canary.barred().items()
            if judgement.verdict is Verdict.REFUSED
        }


def _refusal(encoder: Encoder, reason: str) -> str:
    return (
        f"{encoder.name}: this worker computes something else than it should: {reason}. Look at "
        "its card, its memory and its version of torch; if what it computes is to be the reference "
        f"from now on: reelvec models accept {encoder.name} --worker NAME, as reelvec status says"
    )
