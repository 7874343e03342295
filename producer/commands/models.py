"""`reelvec models`: the pretrained weights, fetched and looked at, which needs no database; and
whose vectors of the canary count.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands import options
from producer.desk import open_database, operator, say
from producer.tables import print_json, print_table
from workers.backbones import registry

if TYPE_CHECKING:
    from rich.progress import Progress

    from workers.backbones.base import Spec
    from workers.settings import WorkerSettings
    from workers.weights.fetch import Watch
    from workers.weights.inventory import Held

commands = typer.Typer(
    help="Fetch the weights of the models, and see which are there.", no_args_is_help=True
)

POLL_SECONDS = 0.25
#: Digits of a commit and of a digest in a table; all of them with --json.
SHOWN_DIGITS = 12


@commands.command()
def fetch(
    backbones: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BACKBONE",
            help=f"The models; default: {' and '.join(registry.DEFAULT_PERMISSIVE)}.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|s3://...", help="Where to put them; default: REELVEC_MODELS_DIR."
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Take the newest commit, even where models.lock names an older one."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Fetch published weights, check them, and note in models.lock which they are.

    Weights that are there and whole are left alone. Workers load them without asking the network.

    Example: reelvec models fetch vivit x-clip
    """
    from dataclasses import asdict

    from db.errors import UsageError
    from workers.weights import fetch as fetching
    from workers.weights import models_dir

    settings = _settings()
    target = (
        models_dir.parse(to, settings, "--to") if to is not None else models_dir.resolve(settings)
    )
    if target is None:
        raise UsageError(
            "this user has no data folder: set REELVEC_MODELS_DIR, or give --to FOLDER"
        )
    specs = fetching.checked(backbones or (), allowed_license=settings.license)
    for spec in specs:
        say(f"{spec.name}: {spec.checkpoint} ({spec.ref}), license {_license(spec)}")
    with _bars() as watch:
        done = fetching.fetch(specs, target, update=update, watch=watch)
    for one in done:
        if as_json:
            print_json(asdict(one))
        what = "fetched" if one.downloaded else "there already"
        say(
            f"{one.backbone}: {what} in {one.where}: commit {one.sha[:SHOWN_DIGITS]}, weights "
            f"{one.weights_digest[:SHOWN_DIGITS]}, {one.size_bytes / 1e6:,.1f} MB, verified"
        )
    if target != models_dir.resolve(settings):
        say(f"to use them: REELVEC_MODELS_DIR={target}")


@commands.command("list")
def list_(
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read every file and compute its digest; the exit code is 1 if one is damaged.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show which weights there are and where they came from: commit, digest, license, size, place.

    Of weights that somebody put there by hand neither checkpoint nor license is known. What is
    missing is shown with what fetch would bring. The model `probe` is not in the table: it has no
    weights.

    Example: reelvec models list --verify
    """
    from dataclasses import asdict

    from db.exit_codes import ExitCode
    from workers.weights import models_dir
    from workers.weights.inventory import inventory

    held = inventory(models_dir.resolve(_settings()), verify=verify)
    if as_json:
        for one in held:
            print_json(asdict(one))
    else:
        _print_table(held)
        for name in _without_weights():
            say(f"{name}: has no weights and needs none; it is for tests, and is never a default")
    for one in held:
        if one.problem:
            say(f"{one.backbone}: {one.problem}")
    if verify and any(one.problem for one in held):
        raise typer.Exit(ExitCode.FAILED)


@commands.command()
def accept(
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="The encoder, such as vivit.")],
    worker: Annotated[
        str,
        typer.Option(
            "--worker",
            metavar="NAME",
            help="The worker whose vectors are right, as reelvec status names it: gpu0@node-3.",
        ),
    ],
    reason: Annotated[str | None, typer.Option(help="Why; status --log shows it.")] = None,
) -> None:
    """Say that what this worker computes is right, where workers differ: for a new torch or card.

    Workers compare their vectors of 96 known frames. Those that are too far from the one that
    counts make nothing of that encoder. From now on this worker's counts; who made the others and
    does not agree with it, stops.
    """
    from db import session
    from db.canary import accepting

    with open_database() as engine, session.transaction(engine) as connection:
        accepting.accept(connection, encoder, worker, who=operator(), reason=reason)
    say(f"{encoder}: what {worker} computes is the reference from now on")


def _settings() -> WorkerSettings:
    from db.settings import load
    from workers import settings

    settings.refuse_unknown()
    return load(settings.WorkerSettings)


def _license(spec: Spec) -> str:
    return spec.license if spec.commercial else f"{spec.license}: non-commercial use only"


def _without_weights() -> list[str]:
    """Backbones that can be asked for and are in no list of weights."""
    return [spec.name for spec in registry.specs() if spec.checkpoint is None]


def _print_table(held: list[Held]) -> None:
    columns = (
        "backbone",
        "checkpoint",
        "ref",
        "license",
        "state",
        "commit",
        "weights",
        "MB",
        "where",
    )
    rows = [
        (
            one.backbone,
            one.checkpoint,
            one.ref,
            one.license,
            one.state,
            one.sha and one.sha[:SHOWN_DIGITS],
            one.weights_digest and one.weights_digest[:SHOWN_DIGITS],
            None if one.size_bytes is None else f"{one.size_bytes / 1e6:,.1f}",
            one.where,
        )
        for one in held
    ]
    print_table(columns, rows, right=["MB"])


@contextmanager
def _bars() -> Iterator[Watch]:
    """Progress bars on a terminal's stderr: how full the folder is that a download fills."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        @contextmanager
        def watch(backbone: str, folder: Path, total_bytes: int) -> Iterator[None]:
            bar = progress.add_task(backbone, total=total_bytes)
            stop = threading.Event()
            following = threading.Thread(
                target=_follow, args=(progress, bar, folder, stop), daemon=True
            )
            following.start()
            try:
                yield
            finally:
                stop.set()
                following.join()
            progress.update(bar, completed=total_bytes)

        yield watch


def _follow(progress: Progress, bar: int, folder: Path, stop: threading.Event) -> None:
    from rich.progress import TaskID

    while not stop.wait(POLL_SECONDS):
        progress.update(TaskID(bar), completed=_bytes_in(folder))


def _bytes_in(folder: Path) -> int:
    """Disk space of a folder's files: names come and go while a download runs."""
    total = 0
    for inner, _, names in os.walk(folder):  # it leaves out folders that are gone by now
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(inner) / name).stat().st_blocks * 512
    return total
