"""`reelvec db`: the schema, and SQL on it."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from producer.commands import options
from producer.desk import addresses, open_database, progress, say
from producer.tables import print_json, print_table
from producer.wording import plural, size

commands = typer.Typer(
    help="Look after the database: upgrade it, dump, restore and import, and run SQL on it.",
    no_args_is_help=True,
)


@commands.command()
def upgrade() -> None:
    """Bring the tables to the version that this reelvec works with. Data are kept; workers may go
    on meanwhile.

    Example: reelvec db upgrade
    """
    from db import schema

    say(f"schema is at revision {schema.upgrade(addresses().database_url)}")


@commands.command()
def check() -> None:
    """Say whether this reelvec can work on the database as it is; the exit code is 78 if not.

    Example: reelvec db check
    """
    from db import schema, session

    with open_database(check_schema=False) as database, session.transaction(database) as connection:
        typer.echo(f"revision {schema.check(connection)}: fits this version")


@commands.command()
def roles(
    only_print: Annotated[
        bool,
        typer.Option(
            "--print", help="Change nothing, only print the SQL for an administrator to run."
        ),
    ] = False,
) -> None:
    """Make the roles reelvec_reader, _enqueuer, _worker and _admin, each with the least rights its
    work needs.

    Nobody can log in as one of them: an administrator gives them to logins, as in GRANT
    reelvec_worker TO gpu_nodes. Run it again after every upgrade.

    Example: reelvec db roles --print
    """
    from db import session
    from db.administration import roles

    with open_database() as database, session.transaction(database) as connection:
        if only_print:
            typer.echo(roles.script(connection), nl=False)
            return
        roles.make(connection)
    say("the roles are made; give one to a login with: GRANT reelvec_worker TO that_login")


@commands.command()
def url() -> None:
    """Print the database's address with its password, for psql and your own code.

    Example: psql "$(reelvec db url)"
    """
    typer.echo(addresses().database_url.replace("postgresql+psycopg2://", "postgresql://", 1))


@commands.command()
def sql(
    statement: Annotated[
        str | None, typer.Argument(help="The SQL; default: read it from stdin.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Allow changes; without it nothing can be changed.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run SQL; tables and views of reelvec need no schema before their name.

    Example: reelvec db sql "SELECT * FROM progress"
    """
    from db.errors import UsageError

    text = statement if statement is not None else sys.stdin.read()
    if not text.strip():
        raise UsageError('no SQL given: reelvec db sql "SELECT * FROM progress"')
    columns, rows, changed = _query(text, write=write)
    if as_json:
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)))
    elif columns:
        print_table(columns, rows)
        say(plural(len(rows), "row"))
    else:
        say("done" if changed is None else f"done: {plural(changed, 'row')}")


@commands.command()
def index(
    encoder: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENCODER]...", help="Whose vectors; default: all that there are."),
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Make indexes of the windows' vectors, too.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make the indexes by which the nearest vectors are found quickly, after the first big job.

    Workers may go on meanwhile. A million vectors can take an hour. What is there already stays as
    it is; what a broken-off build has left is dropped first.

    Example: reelvec db index vivit
    """
    from producer import indexing

    with open_database(statement_seconds=math.inf) as database, progress() as tell:
        made = indexing.make(database, encoder or (), windows=windows, say=say, tell=tell)
    if as_json:
        for one in made:
            print_json(asdict(one))
    else:
        columns = [field.name for field in fields(indexing.Made)]
        numbers = ("vectors", "seconds", "size_bytes")
        print_table(columns, [list(asdict(one).values()) for one in made], right=numbers)


@commands.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .npz with embeddings [videos, numbers], or [videos, windows, numbers], of "
            "which the mean is taken; filenames or uris; and labels, if there are any.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ENCODER",
            help="The encoder that the vectors get, one of their own. Default: imported- and the "
            "name of the file.",
        ),
    ] = None,
) -> None:
    """Take vectors that were made elsewhere, such as the notebook's data/embeddings/vivit.npz.

    By filenames a row goes to the recorded video of that name, unless its label says another
    category. By uris, which reelvec export writes, a video that is not known is recorded; nothing
    is queued for it. Labels fill in categories that are missing. Vectors are stored as float16.
    Twice changes nothing; Python objects (pickles) are not read.

    Example: reelvec db import data/embeddings/vivit.npz --as notebook-vivit
    """
    from producer.results import taking_in

    with open_database(statement_seconds=math.inf) as database, progress() as tell:
        report = taking_in.import_file(database, file, name, tell)
    if report.unmatched:
        say(
            f"{plural(report.unmatched, 'row')} of no recorded video, for example "
            f"{report.first_unmatched!r}"
        )
    if report.ambiguous:
        say(f"{plural(report.ambiguous, 'row')} whose name several videos or rows have: left out")
    say(
        f"{report.encoder}: {plural(report.written, 'vector')} written, {report.already:,} there "
        f"already, {plural(report.new_videos, 'new video')}"
    )


@commands.command()
def dump(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The file to write. One that is there is replaced when all is written.",
        ),
    ],
) -> None:
    """Write all videos, jobs, vectors and scores into one file, as they are at this moment. Workers
    may go on.

    It needs no pg_dump, and any version of Postgres from 15 on can take the file.

    Example: reelvec db dump videos.reelvec
    """
    from db.administration import transfer
    from producer.local.targets import refuse_file, whole_file, wrote

    refuse_file("FILE", file)
    where = addresses()
    done = wrote(file)
    with whole_file(file) as target:
        transfer.dump(where.database_url, target, say)
    say(f"{done} {file}: {size(file.stat().st_size)}; reelvec db restore reads it")


@commands.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What reelvec db dump wrote.")],
) -> None:
    """Fill a database that has no videos yet with the rows of such a file: all of them, or none.

    It makes the schema, and the extension where this role may; indexes that were added are made
    again.

    Example: reelvec db restore videos.reelvec
    """
    from db.administration import transfer

    transfer.restore(addresses().database_url, file, say)
    say(f"restored {file}; reelvec status shows it")


@commands.command()
def purge(
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Remove the pictures of all videos.")
    ] = False,
) -> None:
    """Remove what can be made again and takes room. Vectors, scores and videos stay.

    Workers go on keeping a picture of each video that was queued without --no-thumbnails.

    Example: reelvec db purge --thumbnails
    """
    from db import session, strips
    from db.errors import UsageError

    if not thumbnails:
        raise UsageError("say what to remove: reelvec db purge --thumbnails")
    with open_database() as database, session.transaction(database) as connection:
        gone = strips.purge(connection)
    say(f"removed {plural(gone.strips, 'picture')}: {size(gone.size_bytes)}")


def _query(statement: str, *, write: bool) -> tuple[list[str], list[tuple[Any, ...]], int | None]:
    from sqlalchemy.exc import DBAPIError

    from db.errors import UsageError
    from db.progress import rates

    with open_database(statement_seconds=math.inf) as database:
        try:
            with database.connect() as connection:
                answer = rates.query(connection, statement, write=write, tell=say)
                connection.commit()
                return answer
        except DBAPIError as error:
            reason = (
                str(error.orig).partition("\nCONTEXT:")[0].strip()
            )  # where in our own functions it was
            hint = "; add --write to allow changes" if "read-only transaction" in reason else ""
            raise UsageError(f"{reason}{hint}") from error
