"""`enqueue`: record videos from a source and queue them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from producer.commands import options
from producer.commands.version import Version
from producer.desk import addresses, connect, operator, say
from producer.tables import print_json
from producer.wording import plural
from workers.backbones import registry
from workers.sampling import policies

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.stack.addresses import Addresses
    from producer.enqueue import Report
    from producer.request import Options, Request


def enqueue(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, s3://bucket/prefix, a list (.csv .tsv .jsonl .json .txt .parquet, also "
            "compressed), one file or"
            " URL, or - for a list on stdin. Default: REELVEC_SOURCE, else every video recorded so "
            "far.",
        ),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            help="Only videos of this category: slug, id, English or Russian name, or folder name. "
            "Repeatable.",
        ),
    ] = None,
    as_category: Annotated[
        str | None,
        typer.Option("--as", metavar="CATEGORY", help="Record all videos with this category."),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB",
            help="Only videos whose name matches; in a bucket the whole key may match, too.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score these labels instead of the shipped ones: a CSV file with "
            "category,prompt[,id,name], or one name per"
            " line. The categories that the source gives to videos stay as they are.",
        ),
    ] = None,
    backbone: options.Backbones = None,
    weights: options.Weights = "pretrained",
    sampling: options.Sampling = policies.DEFAULT,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many newly queued videos.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only this many videos, chosen at random from the whole source; every run chooses "
            "the same ones.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute vectors again that exist already.")
    ] = False,
    no_thumbnails: Annotated[
        bool,
        typer.Option(
            "--no-thumbnails",
            help="Keep no picture of each video for reelvec ui: 6 KB a video, 6 GB for a million.",
        ),
    ] = False,
    keep_frames: Annotated[
        bool,
        typer.Option(
            "--keep-frames",
            help="Keep the sampled frames (REELVEC_FRAMES of the workers says where), so that a "
            "model that is added later needs no video again: 2 to 4 MB a video.",
        ),
    ] = False,
    keep_context: Annotated[
        bool,
        typer.Option(
            "--keep-context",
            help="Keep what x-clip needs to be given other labels later by `reelvec tag --labels`: "
            "0.6 MB a video, so for samples.",
        ),
    ] = False,
    recheck: Annotated[
        bool,
        typer.Option(
            "--recheck",
            help="Only check the done videos that an older version sampled: encrypted and damaged "
            "ones fail and lose"
            " their vectors, the others keep them. SOURCE limits this to the videos below it.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait until all videos have ended; the exit code is 3 if some failed, 1 if there "
            "is no progress.",
        ),
    ] = False,
    as_json: options.Json = False,
    _version: Version = False,
) -> None:
    """Record videos from a source and queue them. Running it twice adds nothing.

    Of a video that is known, what a list or --as says replaces category and title; the names of
    its file and folder only fill in what is missing.

    Example: enqueue ./videos --category films --wait
    """
    from producer.request import Options, checked

    asked = Options(
        sources=sources or (),
        only_categories=category or (),
        as_category=as_category,
        match=match,
        labels=labels,
        backbones=backbone or (),
        weights=weights,
        sampling=sampling,
        limit=limit,
        sample=sample,
        force=force,
        thumbnails=not no_thumbnails,
        keep_context=keep_context,
        keep_frames=keep_frames,
    )
    if recheck:
        _recheck(asked, dry_run=dry_run, wait=wait, as_json=as_json)
    else:
        request = checked(asked)
        by_default = not asked.backbones
        _enqueue(request, by_default=by_default, dry_run=dry_run, wait=wait, as_json=as_json)


def _enqueue(
    request: Request, *, by_default: bool, dry_run: bool, wait: bool, as_json: bool
) -> None:
    import dataclasses

    where = addresses()
    with connect(where) as database, database.connect() as connection:
        _say_choices(request, by_default=by_default)
        _say_missing_weights(database, request)
        _say_new_category(connection, request)
        report = _record(connection, request, dry_run=dry_run)
        _say_report(report, dry_run=dry_run)
        _say_facts(report, request, dry_run=dry_run)
        _say_context(report, request)
        _say_frames(report, request)
        published = 0 if dry_run else _feed(database)
        if as_json:
            counts = dataclasses.asdict(report.counts)
            print_json(
                {"listed": report.listed, "bad": report.bad, **counts, "published": published}
            )
        if wait and not dry_run:
            _wait(database, connection, where)
    if not dry_run and not wait and report.counts.queued:
        say("next: reelvec worker (on every node), reelvec status")


def _recheck(asked: Options, *, dry_run: bool, wait: bool, as_json: bool) -> None:
    from producer import recheck, selectors

    recheck.refuse_others(asked)
    sources, categories = asked.sources, asked.only_categories
    chosen = recheck.selections(categories, sources)
    where = addresses()
    with connect(where) as database, database.connect() as connection:
        selectors.refuse_unknown_categories(connection, categories)
        connection.rollback()
        if dry_run:
            videos = recheck.count(connection, chosen)
            say(
                f"dry run, nothing changed: {plural(videos, 'done video was', 'done videos were')} "
                "sampled by an older version"
            )
        else:
            what = " ".join([*sources, str(selectors.Selectors(categories))]).strip()
            videos = recheck.run(connection, chosen, who=operator(), what=what)
            say(
                f"{plural(videos, 'done video is', 'done videos are')} checked again;"
                " those that are encrypted or damaged will fail"
            )
        published = 0 if dry_run else _feed(database)
        if as_json:
            print_json({"rechecked": videos, "published": published})
        if wait and not dry_run:
            _wait(database, connection, where)


def _wait(database: Engine, connection: Connection, where: Addresses) -> NoReturn:
    """Ends the command by what became of the videos that `connection` remembers."""
    from producer import wait

    try:
        ended = wait.until_done(database, connection, where.broker_url)
    except KeyboardInterrupt:
        say("no longer waiting: the videos stay queued, and reelvec status shows them")
        raise
    raise typer.Exit(ended)


def _say_choices(request: Request, *, by_default: bool) -> None:
    """`by_default`: nobody has named the models."""
    from producer.request import misnamed_weights

    for hint in misnamed_weights() if request.weights == "pretrained" else ():
        say(f"warning: {hint}")
    if request.weights != "pretrained":
        say(
            f"WEIGHTS ARE {request.weights.upper()}: the vectors mean nothing; they only show that "
            "everything works"
        )
    for name in request.backbones:
        spec = registry.get(name)
        if not spec.commercial:
            say(f"{name}: weights are {spec.license} (non-commercial)")
        if spec.package and request.weights == "pretrained":
            why = ", chosen because no other weights are here" if by_default else ""
            say(f"{name}: a first model for small machines{why}; it sees pictures and no motion")
    if any(registry.get(name).has_text for name in request.backbones):
        shown = (
            request.labels
            or "the shipped example rutube-47 (English, Russian, bare names); for your own give "
            "--labels FILE"
        )
        say(f"labels: {shown}")


def _say_missing_weights(database: Engine, request: Request) -> None:
    """Videos may be queued for a model before its weights are anywhere; but not without a word."""
    from producer import weights

    for line in weights.missing(database, request):
        say(f"warning: {line}")


def _say_new_category(connection: Connection, request: Request) -> None:
    """A slip in `--as` would make a category without a word."""
    from producer import named_categories

    said = named_categories.made_anew(connection, request)
    connection.rollback()  # reading a source takes long
    if said is not None:
        say(said)


def _record(connection: Connection, request: Request, *, dry_run: bool) -> Report:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from producer.enqueue import run
    from producer.sources.naming import VIDEO_SUFFIXES

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("reading {task.completed} rows"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("")
        report = run(
            connection,
            request,
            dry_run=dry_run,
            advance=lambda count: progress.advance(task, count),
        )
    if report.unmatched.count and report.listed == report.bad:
        say(
            f"--match {request.match!r} matches none of {plural(report.unmatched.count, 'video')}, "
            f"for example {report.unmatched.example!r}; it is compared with the name, in a bucket "
            "also with the whole key"
        )
    elif not report.listed and request.sources:
        endings = " ".join(sorted(VIDEO_SUFFIXES))
        say(
            f"no video found: names of videos end in {endings}; with --match also names without an "
            "ending are taken"
        )
    elif request.only_categories and report.listed > report.bad and not report.counts.selected:
        say(_none_of_the_category(report, request))
    return report


def _none_of_the_category(report: Report, request: Request) -> str:
    without = report.without_category
    some = f"; {without:,} have none" if without and report.other_categories else ""
    return (
        f"--category {' or '.join(request.only_categories)}: none of "
        f"{plural(report.listed - report.bad, 'listed video')} has it; their categories: "
        f"{', '.join(report.other_categories) or 'none'}{some}"
    )


def _say_report(report: Report, *, dry_run: bool) -> None:
    from producer.enqueue import ERRORS_SHOWN

    for expected, real in report.taggers:
        edited = real.startswith(f"{expected}-")
        why = (
            "the labels have changed since that tagger was made"
            if edited
            else "the same labels are known under another name"
        )
        say(f"labels: scores are written as tagger {real}, not {expected}: {why}")
    for error in report.first_errors:
        say(f"bad row: {error.where}: {error.reason}")
    if report.bad > ERRORS_SHOWN:
        say(f"bad row: ... and {report.bad - ERRORS_SHOWN} more")
    if report.first_warning is not None:
        say(f"warning: {report.first_warning} ({plural(report.warned, 'row')})")
    if (absent := report.absent.warning) is not None:
        say(f"warning: {absent}")
    counts = report.counts
    parts = [
        f"listed {report.listed:,}",
        f"selected {counts.selected:,}",
        f"queued {counts.queued:,}",
    ]
    parts += [f"already done {counts.already_done:,}"]
    optional = {
        "changed": counts.changed,
        "already waiting": counts.already_waiting,
        "already failed": counts.already_failed,
        "bad rows": report.bad,
        "duplicates": counts.duplicates,
    }
    more = {"already waiting": counts.widened}
    parts += [
        f"{name} {count:,}"
        + (f" ({more[name]:,} of them want one more model now)" if more.get(name) else "")
        for name, count in optional.items()
        if count
    ]
    say(("dry run, nothing changed: " if dry_run else "") + " · ".join(parts))
    if counts.already_failed:
        say("failed videos are tried again with: reelvec retry")


def _say_facts(report: Report, request: Request, *, dry_run: bool) -> None:
    """What became of the categories and titles that were recorded before."""
    counts = report.counts
    now = {"category": counts.recategorised, "title": counts.retitled}
    for fact, videos in now.items():
        if videos:
            has = "would have" if dry_run else "has" if videos == 1 else "have"
            by = "a list or --as" if fact == "category" else "a list"
            say(
                f"{plural(videos, 'video')} {has} another {fact} than was recorded before, because "
                f"{by} says so"
            )
    if counts.category_kept:
        keep = plural(counts.category_kept, "video keeps", "videos keep")
        say(
            f"{keep} the category that was recorded before, which is not the name of the folder: "
            "only a list or --as replaces a category"
        )
        if request.only_categories:
            say(
                "--category has chosen by the names of the folders; without a SOURCE, and in other "
                "commands, it means the category that is recorded"
            )


def _say_context(report: Report, request: Request) -> None:
    """What `--keep-context` will take: known before anything is computed."""
    if not request.keep_context:
        return
    megabytes, queued = request.context_bytes / 1e6, report.counts.queued
    say(
        f"context: {megabytes:.1f} MB a video, {megabytes * queued / 1000:,.1f} GB of Postgres for "
        f"the {queued:,} queued"
    )
    if report.counts.already_done and not request.force:
        say("context: videos that are done already have what they have; --force makes them anew")


def _say_frames(report: Report, request: Request) -> None:
    """What `--keep-frames` does not do."""
    if request.keep_frames and report.counts.already_done and not request.force:
        say(
            "frames: of videos that are done already none are kept; --force samples them again, "
            "and so does the next model that is added"
        )


def _feed(database: Engine) -> int:
    from db.errors import UnavailableError
    from workers import feeder
    from workers.app import app

    try:
        return feeder.feed(database, app)
    except UnavailableError:
        say(
            "recorded, but not sent to the broker yet: workers, or another enqueue, do that once "
            "it answers"
        )
        raise
