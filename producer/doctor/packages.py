"""The packages of a worker, each tried in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from db.errors import UsageError
from producer.doctor import gpu
from producer.doctor.check import Check, Finding, fail, ok, skipped
from producer.doctor.child import ProbeError, probe

GROUP = "Worker packages"
INSTALL = "pip install '.[worker]'"
#: Imported name -> name for pip.
NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "av": "av",
    "PIL": "pillow",
}
#: What a sampler node does without.
EMBEDDING = {"torch", "transformers", "safetensors"}
SECONDS = 120.0


def missing() -> list[str]:
    """Packages of the worker extra that are not installed."""
    return [package for module, package in NEEDED.items() if not _is_there(module)]


def require(doing: str, *modules: str) -> None:
    """Raises `UsageError` where any of these is not installed: `doing` needs them."""
    if absent := [NEEDED[module] for module in modules if not _is_there(module)]:
        raise UsageError(f"{doing} needs {', '.join(absent)}, not installed here: {INSTALL}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # there, and broken: its probe says how
        return True


def checks() -> list[Check]:
    absent = missing()
    if absent:
        return [Check(GROUP, "worker packages", lambda: [judge_missing(absent)])]
    found = [
        Check(GROUP, "torch", _torch, SECONDS, early=True),
        Check(
            GROUP,
            "transformers",
            _tried("transformers", _say_transformers, INSTALL),
            SECONDS,
            early=True,
        ),
        Check(GROUP, "av", _tried("av", _say_av, INSTALL), SECONDS, early=True),
        Check(
            GROUP,
            "pillow",
            _tried("pillow", lambda facts: facts["version"], INSTALL),
            SECONDS,
            early=True,
        ),
        Check(GROUP, "sampler", _sampler, SECONDS, early=True),
    ]
    return [
        *found,
        *(
            [Check(GROUP, "torchvision", _torchvision, SECONDS, early=True)]
            if _is_there("torchvision")
            else []
        ),
    ]


def judge_missing(absent: list[str]) -> Finding:
    if len(absent) == len(NEEDED):
        return skipped("worker packages", f"not installed; only a worker needs it: {INSTALL}")
    if set(absent) == EMBEDDING:
        only = f"this machine can only sample (reelvec worker --stage sample); to embed: {INSTALL}"
        return skipped("worker packages", only)
    return fail("worker packages", f"{', '.join(absent)} not installed, the others are", INSTALL)


def _torch() -> Iterator[Finding]:
    try:
        facts = probe("torch")
    except ProbeError as error:
        yield fail("torch", f"does not work: {error}", f"pip uninstall torch, then {INSTALL}")
        return
    yield ok("torch", str(facts["version"]))
    yield gpu.judge(
        gpu.GpuFacts(
            torch=facts["version"],
            cuda=facts["cuda"],
            visible=tuple(facts["visible"]),
            gpus=tuple(facts["gpus"]),
            driver=gpu.driver_version(),
            asked=facts["asked"],
            chosen=facts.get("chosen"),
            refused=facts.get("refused"),
            hidden=gpu.hidden(),
        )
    )


def _tried(
    name: str, say: Callable[[dict[str, Any]], str], cure: str
) -> Callable[[], Iterator[Finding]]:
    def findings() -> Iterator[Finding]:
        try:
            yield ok(name, say(probe(name)))
        except ProbeError as error:
            yield fail(name, f"does not work: {error}", cure_for(name, str(error), cure))

    return findings


def cure_for(name: str, problem: str, cure: str) -> str:
    """A torchvision that does not match torch makes every vision class of transformers fail, in
    other words.
    """
    if name == "transformers" and ("torchvision" in problem or _is_there("torchvision")):
        return "pip uninstall torchvision: it does not fit this torch, and reelvec does not need it"
    return cure


def _say_transformers(facts: dict[str, Any]) -> str:
    return f"{facts['version']}, the classes of all {facts['models']} models load"


def _say_av(facts: dict[str, Any]) -> str:
    return f"{facts['version']} with FFmpeg {facts['ffmpeg']}"


def _torchvision() -> Iterator[Finding]:
    try:
        version = probe("torchvision")["version"]
    except ProbeError as error:
        yield fail(
            "torchvision",
            f"does not work ({error}), and with it no vision model of transformers",
            "pip uninstall torchvision: reelvec does not need it",
        )
        return
    yield ok("torchvision", f"{version}, not needed")


def _sampler() -> Iterator[Finding]:
    cure = (
        "python -I -m workers.sampling.inside.process says what a sampler process meets (it ends "
        "at once without arguments)"
    )
    try:
        facts = probe("sampler")
    except ProbeError as error:
        yield fail("sampler", f"a test clip cannot be decoded: {error}", cure)
        return
    if facts["frames"] == 96 and abs(facts["grey"] - 128) < 4:
        yield ok(
            "sampler",
            f"a test clip ({facts['codec']}) became 96 frames in {facts['seconds']:.1f} s",
        )
    else:
        yield fail(
            "sampler",
            f"a grey test clip became {facts['frames']} frames of brightness {facts['grey']:.0f}",
            cure,
        )
