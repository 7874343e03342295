"""Celery's own options for a worker: honoured, or refused with what to do instead. And whose
modules it runs.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import solo, thread

from db import logs
from db.errors import UsageError
from workers import contract
from workers.app import app
from workers.node import supervisor
from workers.node.celery_options import refusals


def worker(**changed: Any) -> SimpleNamespace:
    """A worker as Celery makes it when no option is given."""
    facts: dict[str, Any] = {
        "pool_cls": thread.TaskPool, "concurrency": 10, "options": {}, "max_tasks_per_child": None, "time_limit": None,
        "max_memory_per_child": None, "soft_time_limit": None, "prefetch_multiplier": 1, "task_events": False,
    }  # fmt: skip
    return SimpleNamespace(**(facts | changed))


def refused(queues: tuple[str, ...] = ("reelvec",), **changed: Any) -> str:
    return "; ".join(refusals(worker(**changed), queues=queues, slots=10))


@pytest.mark.parametrize("queues", [("reelvec",), ("reelvec.siglip2",), ("other", "reelvec")])
def test_what_fits_is_taken(queues: tuple[str, ...]) -> None:
    assert refused(queues) == ""


@pytest.mark.parametrize(
    ("queues", "told"),
    [
        (("other",), "listen to other, .* in the queue reelvec: leave -Q"),
        ((), "no queue"),
        (("reelvecs",), "reelvecs"),
    ],
)
def test_a_queue_where_nothing_comes(queues: tuple[str, ...], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        assert refused(queues) == ""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"pool_cls": solo.TaskPool}, "--pool solo"),
        (
            {"concurrency": 4},
            "--concurrency 4: this worker has 10 videos in hand.* REELVEC_SAMPLERS",
        ),
        ({"options": {"autoscale": (3, 1)}}, "--autoscale"),
        ({"options": {"beat": True}}, "--beat"),
        ({"max_tasks_per_child": 3}, "REELVEC_RECYCLE_VIDEOS"),
        ({"max_memory_per_child": 3}, "REELVEC_RECYCLE_BYTES"),
        ({"time_limit": 3.0}, "REELVEC_JOB_SECONDS"),
        ({"soft_time_limit": 3.0}, "REELVEC_JOB_SECONDS"),
        ({"prefetch_multiplier": 4}, "--prefetch-multiplier"),
        ({"task_events": True}, "--task-events"),
    ],
)
def test_what_does_not_fit_is_told_with_what_to_do(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        assert refused(**changed) == ""


def test_a_log_file_gets_every_line_and_no_secret(tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    path = tmp_path / "w1.log"
    try:
        logs.configure_logging("INFO", str(path))
        logging.getLogger("workers.tasks").warning("at postgresql://ann:s3cretword@h/v")
        path.rename(tmp_path / "w1.log.1")  # as logrotate does
        logging.getLogger("workers.tasks").warning("again")
        with pytest.raises(UsageError, match=r"nowhere.w1\.log cannot be written: No such file"):
            logs.configure_logging("INFO", str(tmp_path / "nowhere" / "w1.log"))
    finally:
        for handler in set(logging.getLogger().handlers) - set(before):
            logging.getLogger().removeHandler(handler)
            handler.close()
    assert (
        (tmp_path / "w1.log.1")
        .read_text()
        .endswith("WARNING workers.tasks: at postgresql://ann:***@h/v\n")
    )
    assert path.read_text().endswith("workers.tasks: again\n")


def test_a_supervised_worker_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """Every name that a worker imports stands in its folder, too; what is started there gets to
    Celery's own help.
    """
    for name in (
        "workers",
        "db",
        "producer",
        "celery",
        "kombu",
        "numpy",
        "torch",
        "av",
        "secrets",
        "random",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"raise RuntimeError('the {name} of somebody else')\n"
        )
    command = [*supervisor.command_of("cpu"), "--help"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=supervisor.environment_of(None, 1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "somebody else" not in done.stderr
    assert (done.returncode, "Start worker instance" in done.stdout) == (0, True)


def test_celery_itself_says_in_one_line_whose_db_it_found(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "__init__.py").write_text("raise RuntimeError('of somebody else')\n")
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.app", "report"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.startswith(
        f"error: the module db would come from {tmp_path / 'db'}, not from "
    )
    assert len(done.stderr.splitlines()) == 1


def test_celery_finds_no_task_of_ours_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs_alone.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        app.loader.import_from_cwd("theirs_alone")
    assert app.loader.import_from_cwd("workers.contract") is contract


@pytest.mark.skipif(os.geteuid() != 0, reason="is told to root alone")
def test_root_is_not_told_of_an_option_that_reelvec_worker_lacks() -> None:
    """As Celery does it when a worker starts."""
    check = "from celery.platforms import check_privileges; check_privileges(['json'])"
    for before, words in (("", "--uid"), ("import workers.app; ", "")):
        done = subprocess.run(
            [sys.executable, "-c", before + check], capture_output=True, text=True, check=True
        )
        assert words in done.stderr if words else done.stderr == ""
