"""The weights: what a worker here would load, what waiting videos want, and what the license rule
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import RefusedConfigurationError, UnavailableError, UsageError
from producer.doctor import packages
from producer.doctor.check import Check, Finding, fail, failed_with, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from db.encoders import Encoder
    from workers.weights.inventory import Held

GROUP = "Models"


def checks() -> list[Check]:
    return [Check(GROUP, "models", findings, 60.0)]


def findings() -> Iterator[Finding]:
    from db import settings
    from workers.backbones import registry
    from workers.settings import WorkerSettings
    from workers.weights import models_dir
    from workers.weights.inventory import inventory

    chosen = settings.load(WorkerSettings)
    place = models_dir.resolve(chosen)
    try:
        held = inventory(place, verify=False)
        wanted = registry.default_backbones(place)
    except (RefusedConfigurationError, UnavailableError) as error:
        yield failed_with("models", error, advice_after="; ")
        return
    yield from judge(
        held, wanted, str(place or "no folder"), chosen.license, desk=bool(packages.missing())
    )
    if isinstance(place, Path):
        for one in held:
            if one.state not in ("missing", "installed") and (
                problem := _incomplete(one.backbone, place)
            ):
                yield problem
    yield from judge_wanted(
        _wanted_encoders(), {one.backbone: one for one in held}, desk=bool(packages.missing())
    )


def judge(
    held: Sequence[Held], wanted: Sequence[str], place: str, allowed: str, *, desk: bool
) -> Iterator[Finding]:
    """What there is, backbone by backbone. `desk`: no worker can run here, so nothing is
    missing.
    """
    from workers.backbones import registry

    there = [one for one in held if one.state != "missing"]
    for one in held:
        if one.state == "missing" and one.problem:
            yield warn(
                one.backbone,
                one.problem.partition(": ")[0],
                "rename it: weights go by the name of their folder",
            )
    if not there:
        fact = f"no weights in {place}; enqueue would want {' and '.join(wanted)}"
        if desk:
            yield skipped("models", f"{fact} on the workers' machines")
        else:
            yield warn(
                "models",
                fact,
                "reelvec models fetch; or try everything out with --weights random-tiny (its "
                "vectors mean nothing)",
            )
        return
    for one in there:
        free = registry.get(one.backbone).commercial
        license_said = (
            f"license {one.license}"
            if one.license
            else "put there by hand, so its license is not known here"
        )
        license_said += "" if free else ": the published weights are for non-commercial use only"
        if one.problem:
            yield fail(
                one.backbone, f"damaged: {one.problem}", f"reelvec models fetch {one.backbone}"
            )
        elif not free and allowed == "commercial":
            yield warn(
                one.backbone,
                f"{license_said}, and REELVEC_LICENSE=commercial refuses it",
                f"move it out of {place}, or name others with enqueue --backbone",
            )
        else:
            size = "" if one.size_bytes is None else f", {one.size_bytes / 1e6:,.0f} MB"
            yield ok(one.backbone, f"{one.state} in {one.where}{size}, {license_said}")


def _incomplete(backbone: str, place: Path) -> Finding | None:
    """What of a backbone's files is not there or cut short; contents are for `reelvec models list
    --verify`.
    """
    from workers.backbones import registry
    from workers.backbones.base import Weights
    from workers.backbones.prompts import missing_tokenizer
    from workers.weights.digest import stored_tensors
    from workers.weights.loading import config_problem, folder_of, weight_files

    spec = registry.get(backbone)
    try:
        folder = folder_of(spec, Weights("pretrained", place))
        stored_tensors(weight_files(spec, folder))
        wrong = config_problem(spec, folder)
    except RefusedConfigurationError as error:
        return fail(
            backbone, str(error), f"reelvec models fetch {backbone}, or copy the folder again"
        )
    if wrong:
        return fail(backbone, wrong, f"reelvec models fetch {backbone}, or use other weights")
    if missing := missing_tokenizer(spec, folder):
        return fail(
            backbone,
            f"{missing}: its tags need a tokenizer",
            f"reelvec models fetch {backbone}, or copy the tokenizer's files there",
        )
    return None


def _wanted_encoders() -> list[Encoder]:
    """Encoders that waiting videos ask for; none where no database says so."""
    from db import encoders, schema, session

    where = servers()
    if where is None:
        return []
    try:
        with (
            session.connect(where.database_url, pool_size=1) as database,
            session.transaction(database) as connection,
        ):
            schema.check(connection)
            return encoders.wanted_encoders(connection)
    except (UnavailableError, RefusedConfigurationError, UsageError):  # said under Postgres
        return []


def judge_wanted(
    wanted: Sequence[Encoder], held: Mapping[str, Held], *, desk: bool
) -> Iterator[Finding]:
    """Whether a worker here could do what waits: the weights are there, and those the encoder was
    bound to.
    """
    from workers.backbones import registry

    for encoder in wanted if not desk else ():
        one = held.get(encoder.backbone)
        if encoder.weights != "pretrained" or one is None:
            continue
        if one.state == "missing":
            yield fail(
                "wanted weights",
                f"videos wait for {encoder.name}, whose weights are not here: a worker here leaves "
                "them to others",
                f"{registry.get(encoder.backbone).brought_by}, or set REELVEC_MODELS_DIR to where "
                "they are",
            )
        elif one.weights_digest and encoder.weights_digest not in (None, one.weights_digest):
            yield fail(
                "wanted weights",
                f"{encoder.name} is bound to weights {encoder.weights_digest}, here are "
                f"{one.weights_digest}: their vectors may not be mixed, a worker here leaves it to "
                "others",
                "give this machine the bound weights (reelvec models list shows which commit)",
            )
