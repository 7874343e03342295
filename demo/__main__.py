"""`make demo`: the main job on real servers, from clips made on the spot to SQL, in a data folder
of its own, and whether what came out is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from db import schema
from db.errors import ReelvecError
from db.exit_codes import ExitCode
from db.stack import local_stack
from demo import clips, judgement

#: The model whose weights come with a package, and those that no package has: the notebook's four.
MODEL = "efficientnet"
RANDOM = ("vivit", "timesformer", "videomae", "x-clip")

console = Console(stderr=True, highlight=False, soft_wrap=True)

QUERIES = (
    (
        "What is there, per category and encoder?",
        "SELECT category, encoder, embedded, videos FROM coverage WHERE embedded > 0 ORDER BY 1, 2",
    ),
    (
        "What do the clips of photographs show?",
        "SELECT title, tag, round(probability::numeric, 2) AS probability FROM tags JOIN videos "
        "USING (video_id) WHERE rank <= 2 AND title LIKE '% pan' ORDER BY title, rank",
    ),
    (
        "Which videos are nearest to 'cat pan'?",
        "SELECT v.title, v.category, round(n.distance::numeric, 2) AS distance FROM videos q, "
        "nearest(q.video_id, 'efficientnet', 3) n JOIN videos v ON v.video_id = n.video_id WHERE "
        "q.title = 'cat pan' ORDER BY n.distance",
    ),
    (
        "What failed, and why?",
        "SELECT title, error_code, error FROM failures JOIN videos USING (video_id)",
    ),
)
#: What is judged: the tags of every clip, and its nearest neighbour.
TAGS = (
    "SELECT title, array_agg(tag ORDER BY rank) AS tags FROM tags JOIN videos USING (video_id) "
    "WHERE tagger = 'efficientnet/imagenet' GROUP BY title"
)
NEAREST = (
    "SELECT q.title, v.title AS nearest FROM videos q JOIN efficientnet USING (video_id), "
    "nearest(q.video_id, 'efficientnet', 1) n JOIN videos v ON v.video_id = n.video_id"
)


class Demonstration:
    """Commands are run as a user would type them, with the demonstration's own data folder in their
    environment.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.videos = data_dir / "videos"
        others = ("DATABASE_URL", "CELERY_BROKER_URL")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in others and not name.startswith("REELVEC_")
        }
        self.environment = {**kept, "REELVEC_DATA_DIR": str(data_dir)}

    def show(self, command: list[str]) -> None:
        console.print(f"\n[bold]$ {subprocess.list2cmdline(command)}[/bold]")

    def run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> None:
        """Show a command, run it, and stop the demonstration if it fails."""
        self.show(list(command))
        done = subprocess.run([script(command[0]), *command[1:]], env=self.environment, check=False)
        if done.returncode not in allowed:
            raise SystemExit(
                f"demo: {command[0]} ended with {done.returncode}, which it should not"
            )

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What a query gives, not shown."""
        done = subprocess.run(
            [script("reelvec"), "db", "sql", "--json", sql],
            env=self.environment,
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise SystemExit(f"demo: {sql}: {done.stderr.decode()}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def worker(self) -> Iterator[None]:
        """`reelvec worker` in the background, its log in the data folder."""
        log = self.data_dir / "worker.log"
        self.show(["reelvec", "worker"])
        console.print(f"(in the background, log: {log})")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [script("reelvec"), "worker"], env=self.environment, stdout=out, stderr=out
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def script(name: str) -> str:
    """The script that was installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def make_clips(folder: Path) -> None:
    columns = (
        TextColumn("making clips"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=clips.COUNT)
        clips.make(folder, lambda name: progress.update(task, advance=1, description=name))


def checkout_folder() -> Path:
    return Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """One for each checkout, named after its path: two of them may be of different versions. It is
    found again by who has REELVEC_DATA_DIR set to it, as `say_end` advises.
    """
    checkout = checkout_folder()
    name = f"demo-{checkout.name}-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}"
    folder = local_stack.default_data_dir(name)
    return folder if folder.name == name else folder / name  # that one is the user's own stack


def remove() -> None:
    """Stop this checkout's servers and delete all they hold."""
    folder = data_folder()
    if not folder.exists():
        console.print(f"there is no demonstration in {folder}")
    else:
        local_stack.LocalStack(folder).down()
        shutil.rmtree(folder)
        console.print(f"removed the demonstration in {folder}")


def main() -> None:
    data_dir = data_folder()
    stack = local_stack.LocalStack(data_dir)
    schema.upgrade(stack.up().database_url)
    demo = Demonstration(data_dir)
    console.print(f"Postgres with pgvector and Valkey run on this machine, data in {data_dir}")
    make_clips(demo.videos)
    # the broken clip is meant to fail
    allowed = (ExitCode.OK, ExitCode.FINISHED_WITH_FAILURES)
    random = [word for name in RANDOM for word in ("--backbone", name)]
    random += ["--weights", "random-tiny"]
    try:
        with demo.worker():
            source = str(demo.videos)
            demo.run("enqueue", source, "--backbone", MODEL, "--wait", allowed=allowed)
            demo.run("enqueue", source, "--category", "films", *random, "--wait", allowed=allowed)
            demo.run("reelvec", "status")
        for question, sql in QUERIES:
            console.print(f"\n{question}")
            demo.run("reelvec", "db", "sql", sql)
        is_right, lines = judgement.verdict(
            {row["title"]: row["tags"] for row in demo.rows(TAGS)},
            {row["title"]: row["nearest"] for row in demo.rows(NEAREST)},
        )
    finally:
        stack.down()
    say_end(data_dir, demo.videos, lines)
    if not is_right:
        raise SystemExit("demo: this is not what was promised")


def say_end(data_dir: Path, videos: Path, lines: Sequence[str]) -> None:
    console.print("\n" + "\n".join(f"[bold]{line}[/bold]" for line in lines))
    _, clip = clips.PHOTOGRAPHED[0]
    python = shlex.quote(sys.executable)
    console.print(
        "(what counts as right stands in demo/photographs.py, written before the first run, and so "
        "do the licenses of the photographs)\n"
        f"The vectors and tags of {MODEL} are real. Those of the other four models came from "
        "random weights: they show that everything works and mean nothing, so no tag of theirs is "
        "in the view tags.\n"
        "Go on with:\n"
        f"  export REELVEC_DATA_DIR={data_dir}\n"
        f"  export PATH={Path(sys.executable).parent}:$PATH\n"
        "  reelvec up\n"
        "  reelvec ui               (a page in your browser: the videos and what is near them)\n"
        "  reelvec status --failed\n"
        '  reelvec db sql "TABLE progress"\n'
        f"  reelvec embed '{videos / clip.folder / clip.name}' --backbone {MODEL}\n"
        "  reelvec up --stop\n"
        "and to delete all of it:\n"
        f"  cd {shlex.quote(str(checkout_folder()))} && {python} -m demo --remove"
    )


if __name__ == "__main__":
    try:
        remove() if sys.argv[1:] == ["--remove"] else main()
    except ReelvecError as error:
        console.print(f"error: {error}")
        sys.exit(error.exit_code)
