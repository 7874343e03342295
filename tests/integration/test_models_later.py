"""Weights that come while a worker runs: it picks them up with its next look, and until then leaves
to others what it cannot make, whatever queue that came by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from db import encoders, ledger, session
from db.canary.references import FINE, Judgement
from db.encoders import Encoder
from db.errors import RefusedConfigurationError
from db.jobs.catalogue import Wanted
from db.ledger import Claim
from tests.ledgering import Row, claim, declare, encoder, one, record, state_of
from workers.engine.engine import Bound, ModelKey
from workers.models import Models, NothingToMakeError
from workers.settings import WorkerSettings
from workers.tally import Tally

WHOLE = b"all of the tensors"


class Loading:
    """In the canary's place: it reads the file that loading would, and finds every worker well."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self.tries = 0

    def load(self, key: ModelKey) -> Bound:
        self.tries += 1
        if self._weights.read_bytes() != WHOLE:
            raise RefusedConfigurationError(f"{key.backbone}: no whole safetensors file")
        return Bound("ab" * 32, 768, "cls")

    def add(self, encoder: Encoder, bound: Bound) -> Judgement:
        return FINE

    def barred(self) -> dict[int, Judgement]:
        return {}


@pytest.fixture
def owing(engine: Engine) -> int:
    """A video that owes vivit."""
    encoder_id = declare(engine, "vivit")
    record(engine, [Row("s3://bucket/a.mp4")], Wanted((encoder_id,), ()))
    return encoder_id


def taken(engine: Engine, models: Models) -> Claim | None:
    """What this worker gets when a message about the video reaches it."""
    return claim(engine, 1, uuid4(), models.ability)


def test_weights_are_picked_up_by_a_live_worker_once_they_are_whole(
    engine: Engine, owing: int, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "vivit"
    encoding: Any = Loading(folder / "model.safetensors")
    settings = WorkerSettings(models_dir=str(folder.parent))
    models = Models(engine, encoding, settings, Tally())
    assert "vivit" not in (models.ability.models or ())
    assert taken(engine, models) is None, "it came by a queue that is not this worker's"
    assert state_of(engine, 1) == "pending"
    assert encoding.tries == 0

    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WHOLE[:5])  # a copy that is not finished
    models.look()
    claimed = taken(engine, models)
    assert claimed is not None
    with pytest.raises(NothingToMakeError):
        models.owed(claimed)
    with session.transaction(engine) as connection:
        assert ledger.release(connection, claimed)
    assert "vivit" not in (models.ability.models or ())
    models.look()
    assert taken(engine, models) is None, "the files are those it failed with"
    assert encoding.tries == 1

    (folder / "model.safetensors").write_bytes(WHOLE)
    models.look()
    claimed = taken(engine, models)
    assert claimed is not None
    assert [owed.encoder.encoder_id for owed in models.owed(claimed)] == [owing]
    bound = "SELECT weights_digest FROM reelvec.encoders"
    assert one(engine, bound) == "ab" * 32


def test_a_sampling_policy_that_is_not_known_is_left_to_others(
    engine: Engine, tmp_path: Path
) -> None:
    """One of a newer version, or that is gone, as `fast` is."""
    with session.transaction(engine) as connection:
        made = encoder("vivit-fast", backbone="vivit", sampling="fast")
        encoder_id = encoders.declare_encoder(connection, made)
    record(engine, [Row("s3://bucket/a.mp4")], Wanted((encoder_id,), ()))
    weights = tmp_path / "vivit" / "model.safetensors"
    weights.parent.mkdir()
    (weights.parent / "config.json").write_text("{}")
    weights.write_bytes(WHOLE)
    watch: Any = Loading(weights)
    tally = Tally()
    models = Models(engine, watch, WorkerSettings(models_dir=str(tmp_path)), tally)
    claimed = taken(engine, models)
    assert claimed is not None
    with pytest.raises(NothingToMakeError):
        models.owed(claimed)
    assert models.ability.refused == (encoder_id,)
    assert "vivit" in (models.ability.models or ()), "other policies of it are made"
