"""`reelvec frames`: what the frame store holds, whether it is whole, and what can go."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from producer import selectors
from producer.commands import options
from producer.desk import open_database, progress, say
from producer.tables import print_json, print_table
from producer.wording import plural

if TYPE_CHECKING:
    from producer.frames import Verified

commands = typer.Typer(
    help="Sampled frames in the frame store (REELVEC_FRAMES): list, verify and purge them.",
    no_args_is_help=True,
)

#: Names that are shown; `--json` has all.
SHOWN = 3


@commands.command("list")
def list_(
    category: selectors.Categories = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    as_json: options.Json = False,
) -> None:
    """Show how many videos have their frames kept, by sampling policy, and how much room they take.

    Videos with the same bytes share one object and are counted each. --since is when they were
    sampled.

    Example: reelvec frames list --category films
    """
    from db import session
    from db.frames import holdings

    selection = selectors.Selectors(category, None, source, since).parsed()
    with open_database(start=False) as database, session.transaction(database) as connection:
        selectors.refuse_unknown_categories(connection, category)
        found = holdings.held(connection, selection)
        waiting = holdings.waiting(connection)
    if as_json:
        for one in found:
            print_json(asdict(one))
    else:
        columns = ("policy", "videos", "kept", "unwritten", "MB")
        rows = [
            (one.policy, one.packs, one.kept, one.unwritten, f"{one.size_bytes / 1e6:,.1f}")
            for one in found
        ]
        print_table(columns, rows, right=columns[1:])
    if waiting:
        say(f"{plural(waiting, 'object')} of deleted rows wait for a worker to delete them")


@commands.command()
def verify(
    read: Annotated[
        bool, typer.Option("--read", help="Read every object and compute its digest, too.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Hold the database against the frame store: what either lacks. The exit code is 1 if anything
    is wrong. Nothing is changed.

    Example: reelvec frames verify --read
    """
    from db.exit_codes import ExitCode
    from producer import frames

    with open_database(start=False) as database, frames.opened() as store, progress() as tell:
        found = frames.verify(database, store, read=read, tell=tell)
    _show(found, as_json=as_json)
    if not found.is_well:
        say("`reelvec frames purge` removes what is wrong; the videos are sampled again if needed")
        raise typer.Exit(ExitCode.FAILED)


@commands.command()
def purge(
    category: selectors.Categories = None,
    source: selectors.Source = None,
    since: selectors.Since = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The frames of all videos, kept ones too.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Remove what verify finds wrong, and objects whose videos were deleted. Selectors name videos
    whose frames are removed, too, also kept ones.

    Example: reelvec frames purge --category films
    """
    from db import session
    from producer import frames

    selection = selectors.Selectors(category, None, source, since).parsed()
    with open_database() as database, frames.opened() as store, progress() as tell:
        with session.transaction(database) as connection:
            selectors.refuse_unknown_categories(connection, category)
        forgotten = 0
        if everything or category or source or since:
            forgotten = frames.forget(database, selection)
        found = frames.verify(database, store, read=False, tell=tell)
        gone = frames.purge(database, store, found)
    if as_json:
        print_json({"forgotten": forgotten, "deleted": gone})
    say(f"forgot {plural(forgotten, 'pack')}, deleted {plural(gone, 'object')}")


def _show(found: Verified, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    wrong = {
        "missing": found.missing,
        "damaged": found.damaged,
        "orphaned": found.orphans,
        "unfinished": found.unfinished,
    }
    rows = [("objects", found.objects, f"{found.size_bytes / 1e6:,.1f} MB")]
    rows += [(name, len(names), ", ".join(names[:SHOWN])) for name, names in wrong.items()]
    rows += [("never written", found.never_written, ""), ("to be deleted", found.waiting, "")]
    print_table(("what", "count", "which"), rows, right=["count"])
