"""A worker that computes something else than others writes nothing of it: at start and later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest
import torch
from sqlalchemy import Engine as Database
from sqlalchemy import text
from typer.testing import CliRunner

from db import encoders, session
from db.canary import drifts, references
from db.canary.drifts import Drifts
from db.canary.limits import CEILING, FLOOR
from db.canary.references import Canary, Verdict
from db.encoders import Encoder
from db.errors import RefusedConfigurationError
from db.jobs.catalogue import Wanted
from db.ledger import Claim
from tests import ledgering, media
from tests.acceptance.test_doctor import BASE_INSTALL
from tests.conftest import Desk, WorkerProcess
from tests.ledgering import Row, execute, one
from workers.backbones import fused, probe, tower
from workers.canary import pictures
from workers.canary.check import CanaryWatch, Me
from workers.engine.engine import Engine, ModelKey
from workers.models import Models, NothingToMakeError
from workers.pipeline import Owed
from workers.sampling.plan import SHAPE
from workers.settings import WorkerSettings
from workers.tally import Tally

#: An hour at 1/100.
CHECK_SECONDS = 36.0
VIVIT = ledgering.encoder("vivit-random-tiny", backbone="vivit", weights="random-tiny")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Node:
    """A worker's models, as `launch.prepare` puts them together, with a clock of its own."""

    worker_id: UUID
    engine: Engine
    watch: CanaryWatch
    models: Models
    clock: Clock
    encoder: Encoder

    @property
    def refuses(self) -> bool:
        return self.encoder.encoder_id in self.models.ability.refused

    def hour_passes(self) -> None:
        self.clock.now += CHECK_SECONDS
        self.models.check()

    def a_minute_passes(self) -> None:
        self.clock.now += CHECK_SECONDS / 60
        self.models.check()

    def owed(self) -> list[Owed]:
        """What a task asks for before it computes. Raises `NothingToMakeError`."""
        assert self.encoder.encoder_id is not None
        claim = SimpleNamespace(encoders=(self.encoder.encoder_id,), taggers=())
        return self.models.owed(cast(Claim, claim))


Start = Callable[..., Node]


@pytest.fixture(scope="module")
def known_frames() -> np.ndarray:
    return pictures.fill(np.empty(SHAPE, np.uint8))


@pytest.fixture
def start(
    engine: Database, known_frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts a worker on a machine of its own that loads one encoder."""
    made: list[Engine] = []
    # drawn once for all
    monkeypatch.setattr(pictures, "fill", lambda frames: np.copyto(frames, known_frames) or frames)

    def start(machine: str, wanted: Encoder | None = None) -> Node:
        encoding, clock, worker_id = Engine(device="cpu", models_dir=None), Clock(), uuid4()
        made.append(encoding)
        me = Me(worker_id, f"cpu@{machine}", machine, "cpu")
        watch = CanaryWatch(
            engine, encoding, me, check_seconds=CHECK_SECONDS, wait_seconds=60.0, clock=clock
        )
        models = Models(engine, watch, WorkerSettings(device="cpu"), Tally())
        wanted = wanted or ledgering.encoder()
        with session.transaction(engine) as connection:
            encoder_id = encoders.declare_encoder(connection, wanted)
            encoder = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        node = Node(worker_id, encoding, watch, models, clock, encoder)
        models.load_all([encoder])
        return node

    yield start
    for encoding in made:
        encoding.close()


def told(engine: Database) -> Drifts:
    with session.transaction(engine) as connection:
        return drifts.read(connection)


def standings(engine: Database) -> dict[str, str]:
    with session.transaction(engine) as connection:
        return dict(
            connection.execute(text("SELECT worker, standing FROM reelvec.canaries")).all()  # type: ignore[arg-type]
        )


# ---- three ways to compute wrongly, each at start and later

Break = Callable[[pytest.MonkeyPatch, "Node | None"], None]


def damage_weight(patch: pytest.MonkeyPatch, node: Node | None) -> None:
    """One number of the model is another one, after its digest was taken."""

    def flip(module: torch.nn.Module) -> None:
        with torch.no_grad():
            dict(module.named_parameters())["embeddings.cls_token"].view(-1)[0] += 8.0

    if node is not None:
        loaded = node.engine._device._loaded[ModelKey("vivit", "random-tiny")]
        assert loaded.tower is not None
        flip(loaded.tower.module)
        return
    fuse = tower.fuse
    patch.setattr(tower, "fuse", lambda *given: (fuse(*given), flip(given[0]))[0])


def wrong_kernel(patch: pytest.MonkeyPatch, _: Node | None) -> None:
    forward = fused.PatchProjection.forward
    patch.setattr(
        fused.PatchProjection, "forward", lambda self, pixels: forward(self, pixels) * 1.5
    )


def wrong_dtype(patch: pytest.MonkeyPatch, node: Node | None) -> None:
    """bfloat16 under the name of float32."""
    patch.setattr(tower.Tower, "dtype_name", "float32")
    patch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    if node is not None:
        loaded = node.engine._device._loaded[ModelKey("vivit", "random-tiny")]
        assert loaded.tower is not None
        loaded.tower.module.bfloat16()


@pytest.mark.parametrize(
    ("broken", "dtype"),
    [(damage_weight, "bfloat16"), (wrong_kernel, "float32"), (wrong_dtype, "float32")],
)
def test_a_broken_worker_makes_nothing(
    engine: Database, start: Start, monkeypatch: pytest.MonkeyPatch, broken: Break, dtype: str
) -> None:
    assert_it_makes_nothing(engine, start, monkeypatch, broken, dtype)


def assert_it_makes_nothing(
    engine: Database, start: Start, monkeypatch: pytest.MonkeyPatch, broken: Break, dtype: str
) -> None:
    """The same breaks in their other dtypes: `tests/soak/test_canary.py`."""
    if dtype == "bfloat16":  # as on a GPU
        monkeypatch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    healthy = [start(machine, VIVIT) for machine in ("a", "b")]
    assert standings(engine) == {"cpu@a": "reference"}
    in_hand = [node.owed() for node in healthy]
    for node, owed in zip(healthy, in_hand, strict=True):
        assert owed
        node.models.require(owed)
    broken(monkeypatch, healthy[1])
    with pytest.raises(RefusedConfigurationError, match="reelvec models accept vivit-random-tiny"):
        healthy[1].hour_passes()
    assert healthy[1].refuses
    with pytest.raises(NothingToMakeError):
        healthy[1].owed()
    with pytest.raises(NothingToMakeError):  # of a video that was computed meanwhile, too
        healthy[1].models.require(in_hand[1])
    healthy[0].models.require(in_hand[0])
    assert [one.worker for one in told(engine).refused] == ["cpu@b"]
    if broken is damage_weight:  # the others are of the whole process
        healthy[0].hour_passes()
        broken(monkeypatch, None)
    with pytest.raises(RefusedConfigurationError, match="computes something else than it should"):
        start("c", VIVIT)
    assert [one.worker for one in told(engine).refused] == ["cpu@b", "cpu@c"]
    assert standings(engine)["cpu@a"] == "reference"


def test_what_was_wrong_once_is_not_believed_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start("a", VIVIT)
    with monkeypatch.context() as patch:
        wrong_kernel(patch, node)
        with pytest.raises(RefusedConfigurationError):
            node.hour_passes()
    with pytest.raises(RefusedConfigurationError):
        node.hour_passes()


def test_a_vector_that_is_not_finite_is_far(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start("a")
    encode = probe.Probe.encode

    def nothing(self, windows, label_sets):
        made = encode(self, windows, label_sets)
        made.embeddings[:] = np.nan
        return made

    monkeypatch.setattr(probe.Probe, "encode", nothing)
    with pytest.raises(RefusedConfigurationError, match="inf from its own float32"):
        node.hour_passes()


def test_a_healthy_fleet_is_never_refused(
    engine: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of bfloat16 among those of float32; with other videos in the batches beside it."""
    nodes = [start("a", VIVIT), start("b", VIVIT)]
    monkeypatch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    nodes.append(start("c", VIVIT))
    nodes += [start(machine) for machine in "abcd"]
    for _ in range(2):
        for node in nodes:
            node.hour_passes()
            node.a_minute_passes()
    assert not any(node.refuses for node in nodes)
    assert told(engine) == Drifts()
    limits = one(engine, "SELECT canary_limits FROM reelvec.encoders WHERE backbone = 'vivit'")
    assert isinstance(limits, dict)
    assert limits["float32"] == FLOOR
    assert FLOOR < limits["bfloat16"] < 0.1


# ---- who is believed


def wrong_everywhere(patch: pytest.MonkeyPatch) -> None:
    """A kernel that is wrong in every dtype: no digest sees it, nor its own float32."""
    encode = probe.Probe.encode

    def wrong(self, windows, label_sets):
        made = encode(self, windows, label_sets)
        made.embeddings[:, 0] += np.linalg.norm(made.embeddings, axis=1) * 0.05
        return made

    patch.setattr(probe.Probe, "encode", wrong)


def test_a_broken_first_worker_does_not_become_the_reference(
    engine: Database,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        wrong_everywhere(patch)
        first = start("a")
    first.owed()  # alone nobody can know; what it makes names its maker
    first.models.wrote([first.encoder.encoder_id or 0])
    second = start("b")
    assert standings(engine) == {"cpu@a": "proposed", "cpu@b": "proposed"}
    (dispute,) = told(engine).disputed
    assert dispute.workers == ("cpu@a", "cpu@b")
    first.a_minute_passes()
    for node in (first, second):
        assert node.refuses, "neither writes while nobody knows who is right"
        with pytest.raises(NothingToMakeError):
            node.owed()
    third = start("c")
    assert standings(engine) == {"cpu@a": "other", "cpu@b": "reference"}
    third.owed()
    second.a_minute_passes()
    second.owed()
    with pytest.raises(RefusedConfigurationError):
        first.a_minute_passes()
    assert (
        "1 videos have vectors of probe from this worker. To make them again: UPDATE" in caplog.text
    )
    assert [one.worker for one in told(engine).refused] == ["cpu@a"]
    assert not told(engine).disputed


def test_workers_of_one_machine_do_not_confirm_each_other(engine: Database, start: Start) -> None:
    nodes = [start("a"), start("a")]
    assert standings(engine) == {"cpu@a": "proposed"}
    for node in nodes:
        node.owed()
    start("b")
    assert standings(engine) == {"cpu@a": "reference"}


def test_an_operator_moves_the_reference(
    engine: Database,
    database_url: str,
    broker_url: str,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from producer.cli import reelvec

    monkeypatch.setenv("REELVEC_DATABASE_URL", database_url)
    monkeypatch.setenv("REELVEC_BROKER_URL", broker_url)
    old, _ = start("a"), start("b")
    with monkeypatch.context() as patch:
        wrong_everywhere(patch)  # a new card, let us say
        with pytest.raises(RefusedConfigurationError):
            start("new")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(reelvec, list(arguments))
        assert result.exit_code in (0, 1), result.output
        return str(result.output)

    refused = CliRunner().invoke(reelvec, ["models", "accept", "probe", "--worker", "cpu@b"])
    assert "there are those of cpu@a, cpu@new" in str(refused.exception)
    shown = run("status")
    assert "DRIFTED  cpu@new (cpu, torch " in shown
    assert "reelvec models accept probe --worker cpu@new" in shown
    run("models", "accept", "probe", "--worker", "cpu@new", "--reason", "new cards")
    log = run("status", "--log")
    assert "accept" in log
    assert "probe --worker cpu@new --reason new cards" in log
    assert standings(engine) == {"cpu@a": "other", "cpu@new": "reference"}
    with pytest.raises(RefusedConfigurationError):
        old.a_minute_passes()
    run("models", "accept", "probe", "--worker", "cpu@a")
    old.a_minute_passes()
    old.owed()


def test_limits_fall_to_what_the_best_worker_measures(engine: Database) -> None:
    encoder_id = ledgering.declare(engine)

    def meet(machine: str, distance: float) -> Verdict:
        vector = np.ones(4, np.float32)
        said = Canary(
            encoder_id, uuid4(), machine, machine, "cuda:0", "torch", "bfloat16", distance, vector
        )
        with session.transaction(engine) as connection:
            return references.meet(connection, said).verdict

    assert meet("z", CEILING * 1.01) is Verdict.REFUSED, "nobody may be so far, the first neither"
    assert meet("a", 0.09) is Verdict.FINE
    assert meet("b", 0.01) is Verdict.FINE
    assert meet("a", 0.09) is Verdict.REFUSED
    assert meet("b", 0.02) is Verdict.FINE


def test_what_a_broken_worker_wrote_is_made_again_by_the_statement_it_logs(
    engine: Database,
) -> None:
    vivit, other = ledgering.declare(engine, "vivit"), ledgering.declare(engine, "x-clip")
    rows = [Row(f"s3://bucket/{n}.mp4") for n in range(2)]
    ledgering.record(engine, rows, Wanted((vivit, other), (), False))
    makers = [uuid4(), uuid4()]
    for video_id, maker in enumerate(makers, start=1):
        claimed = ledgering.claim(engine, video_id, maker)
        assert claimed is not None
        made = ledgering.Outcome((ledgering.vectors(vivit), ledgering.vectors(other)))
        assert ledgering.finish(engine, claimed, made) == "done"
    theirs = Canary(
        vivit, makers[0], "cpu@a", "a", "cpu", "torch", "float32", 0.0, np.ones(4, np.float32)
    )
    execute(engine, references.redo_sql(theirs))
    again = ledgering.claim(engine, 1, uuid4())
    assert again is not None
    assert again.encoders == (vivit,)
    assert ledgering.claim(engine, 2, uuid4()) is None
    made = ledgering.Outcome((ledgering.vectors(vivit, 2.0),))
    assert ledgering.finish(engine, again, made) == "done"


# ---- a real process

#: From the moment the file exists this machine's numbers are wrong.
SPOILT = """
import os
import workers.backbones.probe as probe
encode = probe.Probe.encode
def wrong(self, windows, label_sets):
    made = encode(self, windows, label_sets)
    if os.path.exists({path!r}):
        made.embeddings[:, 0] += 100
    return made
probe.Probe.encode = wrong
"""


def test_a_worker_that_drifts_ends_with_78_and_leaves_what_waits(
    desk: Desk, engine: Database, start_worker: Callable[..., WorkerProcess]
) -> None:
    sign = desk.folder / "drift"
    (desk.folder / "sitecustomize.py").write_text(SPOILT.format(path=str(sign)))
    media.make_clip(desk.folder / "one.mp4", seconds=1)
    desk.run("enqueue", str(desk.folder / "one.mp4"), "--backbone", "probe")
    worker = start_worker(PYTHONPATH=str(desk.folder), REELVEC_CANARY_SECONDS="1")
    done = "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'"
    while one(engine, done) != 1:
        assert worker.process.poll() is None, worker.log()
        time.sleep(0.1)
    sign.touch()
    assert worker.process.wait(60) == 78, worker.log()
    assert "this worker makes nothing of probe any more" in worker.log()
    assert "1 videos have vectors of probe from this worker" in worker.log()
    shown = desk.run("reelvec", "status", "--workers", expect=None)
    assert "DRIFTED  " in shown.stderr
    base = desk.folder / "base"  # of a desk, whose doctor tries nothing heavy
    base.mkdir()
    (base / "sitecustomize.py").write_text(BASE_INSTALL)
    doctor = desk.run("reelvec", "doctor", expect=None, PYTHONPATH=str(base))
    assert "makes nothing of probe" in doctor.stdout + doctor.stderr
