"""The two scripts, `reelvec` and `enqueue`: commands are mounted here, errors become exit codes
here.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper

import typer

from db.errors import ReelvecError
from db.exit_codes import ExitCode
from db.logs import configure_logging, print_exception
from producer.commands import (
    db,
    dedupe,
    doctor,
    embed,
    enqueue,
    evaluate,
    export,
    frames,
    models,
    report,
    sample,
    search,
    status,
    steer,
    tag,
    ui,
    up,
    worker,
)
from producer.commands import map as mapping
from producer.commands.version import Version

RUN, WATCH, USE, SET_UP, LOOK = (
    "Run",
    "Watch and steer",
    "Use the results",
    "Set up",
    "Look at one file",
)

reelvec = typer.Typer(
    name="reelvec",
    epilog="Environment: REELVEC_DATABASE_URL  REELVEC_BROKER_URL  REELVEC_MODELS_DIR  (all: "
    "docs/configuration.md)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@reelvec.callback()
def both(_version: Version = False) -> None:
    """Turn a catalogue of videos into vectors and category tags in Postgres."""


reelvec.command(rich_help_panel=RUN)(enqueue.enqueue)
reelvec.command(rich_help_panel=RUN)(worker.worker)
reelvec.command(rich_help_panel=RUN)(embed.embed)
reelvec.command(rich_help_panel=WATCH)(status.status)
reelvec.command(rich_help_panel=WATCH)(steer.retry)
reelvec.command(rich_help_panel=WATCH)(steer.cancel)
reelvec.command(rich_help_panel=WATCH)(steer.pause)
reelvec.command(rich_help_panel=USE)(search.search)
reelvec.command(rich_help_panel=USE)(export.export)
reelvec.command(rich_help_panel=USE)(evaluate.evaluate)
reelvec.command(rich_help_panel=USE)(tag.tag)
reelvec.command(rich_help_panel=USE)(dedupe.dedupe)
reelvec.command(name="map", rich_help_panel=USE)(mapping.map_)
reelvec.command(rich_help_panel=USE)(ui.ui)
reelvec.command(rich_help_panel=USE)(report.report)
reelvec.command(rich_help_panel=SET_UP)(up.up)
reelvec.command(rich_help_panel=SET_UP)(doctor.doctor)
reelvec.add_typer(db.commands, name="db", rich_help_panel=SET_UP)
reelvec.add_typer(models.commands, name="models", rich_help_panel=SET_UP)
reelvec.add_typer(frames.commands, name="frames", rich_help_panel=SET_UP)
reelvec.command(rich_help_panel=LOOK)(sample.sample)

enqueue_alone = typer.Typer(name="enqueue", pretty_exceptions_enable=False)
enqueue_alone.command()(enqueue.enqueue)


def _hear_again(ignored: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a callback of its own (every import runs one), a Ctrl-C too:
    it comes again as soon as that callback is over.
    """
    if ignored.exc_type is KeyboardInterrupt:
        main = threading.main_thread().ident or 0
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


def _run(command: Callable[[], object]) -> None:
    sys.unraisablehook = _hear_again
    configure_logging("WARNING")
    if isinstance(
        sys.stdout, TextIOWrapper
    ):  # a name that this terminal cannot show ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
    except ReelvecError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except (
        KeyboardInterrupt,
        SystemExit,
    ) as ended:  # typer has a Ctrl-C end with 130, and says nothing
        if isinstance(ended, SystemExit) and ended.code != ExitCode.INTERRUPTED:
            raise
        print("interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception:  # noqa: BLE001 - Python would print it with every secret in it
        print_exception(*sys.exc_info())
        sys.exit(ExitCode.FAILED)


def main() -> None:
    """`reelvec`"""
    _run(partial(reelvec, prog_name="reelvec"))


def enqueue_main() -> None:
    """`enqueue`"""
    _run(partial(enqueue_alone, prog_name="enqueue"))
