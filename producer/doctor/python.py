"""Python, the installed reelvec, and whether names lead where they should."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path

from producer.doctor import child, requirements
from producer.doctor.check import Check, Finding, fail, ok, warn

GROUP = "Python"
MINIMUM = (3, 11)
OURS = ("db", "workers", "producer")
#: Not ours, but a file of that name in the current folder breaks a worker, too.
THEIRS = ("celery", "torch", "transformers", "av", "PIL", "numpy")
#: A module that only reelvec has: a folder that holds it is a copy of reelvec.
OUR_MARK = "reelvec_origin.py"


def checks() -> list[Check]:
    return [
        Check(GROUP, "python", interpreter),
        Check(GROUP, "reelvec", installation),
        Check(GROUP, "module names", names),
    ]


def interpreter() -> Iterator[Finding]:
    yield judge_interpreter(
        tuple(sys.version_info[:3]), platform.system(), platform.machine(), sys.maxsize > 2**32
    )


def judge_interpreter(
    version: tuple[int, ...], system: str, machine: str, is_64_bit: bool
) -> Finding:
    fact = f"{'.'.join(map(str, version))} on {system} {machine}"
    if version[:2] < MINIMUM:
        return fail(
            "python", f"{fact}: too old", f"use Python {'.'.join(map(str, MINIMUM))} or newer"
        )
    if not is_64_bit:
        return fail("python", f"{fact}, a 32-bit build", "use a 64-bit Python: torch has no other")
    if system not in ("Linux", "Darwin"):
        return fail(
            "python",
            f"{fact}: not supported",
            "use Linux or macOS (on Windows: WSL or a container)",
        )
    return ok("python", fact)


def installation() -> Iterator[Finding]:
    try:
        version = metadata.version("reelvec")
    except metadata.PackageNotFoundError:
        yield fail(
            "reelvec", "runs from a folder and is not installed", "pip install . in its folder"
        )
        return
    yield ok("reelvec", f"{version} in {_folder(import_module('producer'))}")
    yield judge_requirements(metadata.requires("reelvec") or [], _installed)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def judge_requirements(lines: list[str], installed: Callable[[str], str | None]) -> Finding:
    """Packages of the base install must be there; those of an extra must fit if they are."""
    wrong = []
    for line in lines:
        wanted = requirements.parse(line)
        if wanted.conditional or wanted.name.lower() == "reelvec" or wanted.extra == "test":
            continue
        version = installed(wanted.name)
        if version is None and wanted.extra is None:
            wrong.append(f"{wanted.name} is missing")
        elif version is not None and not wanted.allows(version):
            wrong.append(f"{wanted.name} {version} is not {wanted.bounds_text}")
    if wrong:
        return fail(
            "required packages",
            "; ".join(wrong),
            "pip install '.' again (workers: pip install '.[worker]')",
        )
    return ok("required packages", "versions fit")


def names() -> Iterator[Finding]:
    here = Path.cwd()
    ours = {name: _folder(import_module(name)) for name in OURS}
    parents = {folder.parent for folder in ours.values()}
    if len(parents) > 1:
        yield fail(
            "module names",
            "reelvec's packages come from different places: " + ", ".join(map(str, ours.values())),
            "a folder of that name comes first on PYTHONPATH: take it off",
        )
        return
    found = child.origins_in(here, (*OURS, *THEIRS))
    yield judge_names(here, {name: str(folder) for name, folder in ours.items()}, found)


def judge_names(here: Path, ours: Mapping[str, str], found: Mapping[str, str | None]) -> Finding:
    """`found`: where a program started in `here` finds each module, `ours`: where reelvec's
    packages are. Where `here` is another copy of reelvec, such as a clone of the repository, that
    is worth a look and no failure.
    """
    shadows, only_copies = [], (here / OUR_MARK).is_file()
    for name, place in found.items():
        if name in ours:
            if place is None or Path(place).resolve() != Path(ours[name]).resolve():
                shadows.append(f"{name} is {place or 'nowhere'}, not {ours[name]}")
                only_copies &= place is not None and Path(place).resolve() == here.resolve() / name
        elif (
            place is not None
            and Path(place).resolve().is_relative_to(here.resolve())
            and "site-packages" not in place
        ):
            shadows.append(f"{name} is {place}")
            only_copies = False
    if shadows and only_copies:
        return warn(
            "module names",
            f"{here} is a copy of reelvec, which only plain `celery -A workers.app` would run in "
            "place of the installed one",
            "use reelvec worker, or start Celery in another folder",
        )
    if shadows:
        return fail(
            "module names",
            f"in {here} `celery -A workers.app` would load the wrong code: {'; '.join(shadows)}",
            "start it in another folder, or rename what is in the way: Celery looks in the current "
            "folder first; reelvec worker does not, and works here",
        )
    return ok("module names", "db, workers and producer are reelvec's own here")


def _folder(module: object) -> Path:
    return Path(next(iter(getattr(module, "__path__", [""]))))
