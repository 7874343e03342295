"""`reelvec doctor` as a newcomer runs it: whatever is wrong, it runs to its end and says what to
do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_mistakes import NOWHERE_BROKER, NOWHERE_DATABASE, without
from tests.conftest import Desk

#: A Python in which the worker extra was never installed.
BASE_INSTALL = """
import importlib.machinery, sys
ABSENT = {"torch", "torchvision", "transformers", "safetensors", "av", "PIL"}
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
for name in [name for name in sys.modules if name.partition(".")[0] in ABSENT]:
    del sys.modules[name]
"""
ADDRESSES = ("DATABASE_URL", "CELERY_BROKER_URL")


@pytest.fixture
def base(desk: Desk) -> Desk:
    """A producer's desk: its runs are quick, as nothing heavy is tried."""
    folder = desk.folder / "base"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BASE_INSTALL)
    desk.environment["PYTHONPATH"] = str(folder)
    return desk


def findings(
    desk: Desk, *arguments: str, expect: int, **variables: str
) -> dict[str, dict[str, Any]]:
    """`group/name` -> finding. No run ever shows a password."""
    done = desk.run("reelvec", "doctor", "--json", *arguments, expect=expect, **variables)
    assert "hunter2" not in done.stdout + done.stderr
    assert (
        desk.environment.get("DATABASE_URL", "://:no password@").split(":")[2].split("@")[0]
        not in done.stdout
    )
    found = json.loads(done.stdout)
    for finding in found:
        assert finding.keys() == {"group", "name", "status", "fact", "advice"}
        assert finding["fact"]
        assert bool(finding["advice"]) or finding["status"] in ("ok", "skipped"), finding
        assert "this check failed unexpectedly" not in finding["fact"], finding
    assert expect == any(finding["status"] == "fail" for finding in found), (
        "the exit code is the worst finding"
    )
    return {f"{finding['group']}/{finding['name']}": finding for finding in found}


def failed(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, finding in found.items() if finding["status"] == "fail"}


def test_a_producers_desk_with_good_servers_is_well(base: Desk) -> None:
    found = findings(base, "--data", expect=0)
    assert found["Worker packages/worker packages"]["status"] == "skipped"
    assert "pip install '.[worker]'" in found["Worker packages/worker packages"]["fact"]
    assert found["Settings/addresses"]["fact"].endswith("from DATABASE_URL and CELERY_BROKER_URL")
    well = {name for name, finding in found.items() if finding["status"] == "ok"}
    assert well >= {
        "Postgres/server",
        "Postgres/schema",
        "Broker/server",
        "Broker/queue",
        "Data/done without vectors",
    }


def test_nothing_configured_names_the_two_ways_on(base: Desk) -> None:
    nothing = without(base, *ADDRESSES)
    found = findings(nothing, "--data", expect=1, REELVEC_DATA_DIR=str(base.folder / "never-made"))
    assert failed(found) == {"Settings/addresses"}
    advice = found["Settings/addresses"]["advice"]
    assert "reelvec up" in advice
    assert "REELVEC_DATABASE_URL and REELVEC_BROKER_URL" in advice


def test_one_address_alone_and_mistyped_variables(base: Desk) -> None:
    alone = without(base, "CELERY_BROKER_URL")
    found = findings(alone, expect=1, REELVEC_SAMPLER="1", REELVEC_LICENSE="free")
    assert failed(found) >= {"Settings/addresses", "Settings/variables"}
    assert "CELERY_BROKER_URL" in found["Settings/addresses"]["advice"]
    assert found["Postgres/server"]["status"] == found["Broker/server"]["status"] == "skipped"


def test_dead_servers_and_two_brokers(base: Desk) -> None:
    found = findings(base, "--data", expect=1, DATABASE_URL=NOWHERE_DATABASE)
    assert failed(found) == {"Postgres/server", "Data/data"}
    assert found["Broker/queue"]["status"] == "ok", "one dead server hides nothing of the other"
    found = findings(base, expect=1, CELERY_BROKER_URL=NOWHERE_BROKER)
    assert failed(found) == {"Broker/server"}
    found = findings(base, expect=1, REELVEC_BROKER_URL=NOWHERE_BROKER)
    assert failed(found) == {"Settings/addresses"}
    assert "unset one of them" in found["Settings/addresses"]["advice"]


def test_a_folder_that_shadows_a_package(base: Desk) -> None:
    (base.folder / "workers").mkdir()
    (base.folder / "workers" / "__init__.py").touch()
    found = findings(base, expect=1)
    assert failed(found) == {"Python/module names"}
    assert str(base.folder / "workers") in found["Python/module names"]["fact"]
    (base.folder / "reelvec_origin.py").touch()  # the folder is a clone of the repository
    assert findings(base, expect=0)["Python/module names"]["status"] == "warn"


def test_broken_rows_are_named(base: Desk) -> None:
    base.run("reelvec", "db", "sql", "--write",
             "INSERT INTO videos (uri) VALUES ('file:///a'); INSERT INTO jobs (video_id, encoders, state)"
             " SELECT video_id, '{7}', 'done' FROM videos")  # fmt: skip
    done = base.run("reelvec", "doctor", "--data", expect=1)
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("2 things to do")
    named = next(index for index, line in enumerate(lines) if "done without vectors" in line)
    assert lines[named].split()[0] == "fail"
    assert "for example video " in lines[named]
    command = lines[named + 1].partition("reelvec db sql --write ")[2].strip('"')
    base.run("reelvec", "db", "sql", "--write", command)
    assert base.run("reelvec", "db", "sql", "SELECT state FROM jobs").stdout.split() == [
        "state",
        "pending",
    ]


def test_a_worker_of_this_machine_is_well(desk: Desk) -> None:
    done = desk.run("reelvec", "doctor", REELVEC_DEVICE="cpu")
    for line in ("torch", "device", "transformers", "av", "pillow", "sampler"):
        assert f"  ok       {line} " in done.stdout
    assert "\x1b" not in done.stdout, "no colours in a pipe"
    assert done.stdout.splitlines()[-1].startswith(("all well", "nothing failed"))


def test_a_source_that_lists_what_is_not_there(base: Desk, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("missing.mp4\n")
    found = findings(base, expect=1, REELVEC_SOURCE=str(tmp_path / "list.txt"))
    assert failed(found) == {"Sources/first video"}
    assert "not_found" in found["Sources/first video"]["fact"]
    assert base.run("reelvec", "db", "sql", "SELECT count(*) FROM videos").stdout.split() == [
        "count",
        "0",
    ]
