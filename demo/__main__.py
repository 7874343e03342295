"""`make demo`: the main job on real servers, from clips made on the spot to SQL, in a data folder
of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from db import schema
from db.errors import ReelvecError
from db.exit_codes import ExitCode
from db.stack import local_stack
from demo import clips

BACKBONES = ("vivit", "timesformer", "videomae", "x-clip")

console = Console(stderr=True, highlight=False, soft_wrap=True)

QUERIES = (
    (
        "What is there, per category and encoder?",
        "SELECT category, encoder, embedded, videos FROM coverage ORDER BY 1, 2",
    ),
    (
        "The nearest videos to 'two koi', as x-clip sees them",
        "SELECT v.title, v.category, round(n.distance::numeric, 4) AS distance"
        " FROM videos q, nearest(q.video_id, 'x-clip-random-tiny', 4) n JOIN videos v ON "
        "v.video_id = n.video_id"
        " WHERE q.title = 'two koi' ORDER BY n.distance",
    ),
    (
        "The best tags of 'tiles', by the English prompts",
        "SELECT rank, tag, round(probability::numeric, 4) AS probability FROM tags JOIN videos "
        "USING (video_id)"
        " WHERE title = 'tiles' AND tagger = 'x-clip-random-tiny/en' AND rank <= 3 ORDER BY rank",
    ),
    (
        "What failed, and why?",
        "SELECT title, error_code, error FROM failures JOIN videos USING (video_id)",
    ),
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
        task = progress.add_task("", total=len(clips.CLIPS) + 1)
        clips.make(folder, lambda name: progress.update(task, advance=1, description=name))


def data_folder() -> Path:
    """One for each checkout, named after its path: two of them may be of different versions."""
    checkout = Path(__file__).resolve().parents[1]
    name = f"demo-{checkout.name}-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}"
    folder = local_stack.default_data_dir(name)
    return (
        folder / name if "REELVEC_DATA_DIR" in os.environ else folder
    )  # that one is the user's own stack


def remove() -> None:
    """Stop this checkout's servers and delete all they hold."""
    folder = data_folder()
    if folder.exists():
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
    choice = [
        "--weights",
        "random-tiny",
        *(word for name in BACKBONES for word in ("--backbone", name)),
    ]
    try:
        with demo.worker():
            source = str(demo.videos)
            demo.run("enqueue", source, "--category", "films", *choice, "--wait", allowed=allowed)
            demo.run("enqueue", source, *choice, "--wait", allowed=allowed)
            demo.run("reelvec", "status")
        for question, sql in QUERIES:
            console.print(f"\n{question}")
            demo.run("reelvec", "db", "sql", sql)
    finally:
        stack.down()
    console.print(
        "\nThe weights were random: these neighbours and tags mean nothing. The plumbing is real.\n"
        "Go on with:\n"
        f"  export REELVEC_DATA_DIR={data_dir}\n"
        f"  export PATH={Path(sys.executable).parent}:$PATH\n"
        "  reelvec up\n"
        "  reelvec status --failed\n"
        '  reelvec db sql "TABLE progress"\n'
        f"  reelvec embed '{demo.videos / clips.CLIPS[4].folder / clips.CLIPS[4].name}' --backbone "
        "probe\n"
        "  reelvec up --stop\n"
        "and without a trace: python -m demo --remove (make clean does it, too)"
    )


if __name__ == "__main__":
    try:
        remove() if sys.argv[1:] == ["--remove"] else main()
    except ReelvecError as error:
        console.print(f"error: {error}")
        sys.exit(error.exit_code)
