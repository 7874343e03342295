"""docker-compose.yml, Dockerfile and .env.example against the code: every command, variable, port
and file they name.

No Docker is needed: the files are read, and what is Python or shell in them is run.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from db import settings
from db.settings import DatabaseSettings
from db.stack import addresses
from producer import cli
from producer.settings import ProducerSettings
from workers import settings as worker_settings
from workers.health import server
from workers.health.address import Tcp, parse
from workers.health.server import Answer
from workers.node import supervisor
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
SERVERS = sorted(SERVICES.keys() - set(OURS))
WORKERS = ["worker", "worker-cpu"]

#: Names outside our prefix that `db.stack.addresses` reads.
ADDRESS_VARIABLES = {"DATABASE_URL", "CELERY_BROKER_URL"}
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(:[?-])([^}]*)\}|\$")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|AUTH")


def expand(text: str, **values: str) -> str:
    """Compose's own interpolation, as far as the file uses it."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        assert match[1], f"a bare $ in {text!r}"
        return values.get(match[1], "" if match[2] == ":-" else f"<{match[1]}>")

    return VARIABLE.sub(replace, text)


def strings(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for child in node.values() for text in strings(child)]
    if isinstance(node, list):
        return [text for child in node for text in strings(child)]
    return [node] if isinstance(node, str) else []


def environment(name: str) -> dict[str, str]:
    return {key: expand(value) for key, value in SERVICES[name].get("environment", {}).items()}


def mounts(name: str) -> dict[str, dict[str, Any]]:
    return {mount["target"]: mount for mount in SERVICES[name].get("volumes", [])}


def seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, duration
    return float(match[1])


@cache
def dockerfile() -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions, after those of the stage it is built from."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            assert name, f"a stage without a name: {line}"
            current = stages[name] = list(stages.get(base, [("FROM", base)]))
        else:
            current.append((word, rest.strip()))
    return stages


def last(stage: str, word: str) -> str:
    return [rest for instruction, rest in dockerfile()[stage] if instruction == word][-1]


def reaches_builder(path: str) -> bool:
    """What .dockerignore lets through: the last pattern that matches a path or a folder above it
    decides.
    """
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        regex = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(rf"{regex}(/.*)?", path):
            kept = line.startswith("!")
    return kept


# --- images


def test_every_image_is_pinned_to_a_release() -> None:
    foreign = [SERVICES[name]["image"] for name in SERVERS]
    foreign += [rest for stage in dockerfile().values() for word, rest in stage if word == "FROM"]
    assert len(foreign) > len(SERVERS)
    for image in foreign:
        assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+[\w.-]*", image), image
    for name in OURS:
        assert (
            SERVICES[name]["image"]
            == f"reelvec-{SERVICES[name]['build']['target']}:{PROJECT['version']}"
        )


def test_the_dockerfile_builds_what_compose_asks_for() -> None:
    for name in OURS:
        stage = dockerfile()[SERVICES[name]["build"]["target"]]
        installs = [
            rest for word, rest in stage if word == "RUN" and rest.startswith("pip install")
        ]
        assert "-c constraints.txt" in installs[0]
        extras = re.findall(r"\.\[([\w,]+)\]", installs[0])
        assert extras == (["worker"] if name in WORKERS else [])
        assert set(extras) <= PROJECT["optional-dependencies"].keys()


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    stages = dockerfile()
    copies = {
        (stage, rest) for stage, lines in stages.items() for word, rest in lines if word == "COPY"
    }
    copied = set()
    for stage, rest in copies:
        *sources, target = rest.split()
        if sources[0].startswith("--from="):
            assert list(stages).index(sources[0].removeprefix("--from=")) < list(stages).index(
                stage
            )
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert reaches_builder(source), source
            # a folder's content is copied, not the folder
            assert (ROOT / source).is_file() or (len(sources) == 1 and target == source), rest
        copied.update(sources)
    for package in ("db", "workers", "producer"):
        assert package in copied
        assert reaches_builder(f"{package}/settings.py")
    assert reaches_builder("producer/labels/rutube.csv")
    for kept_out in (
        ".env",
        ".git/config",
        "tests/conftest.py",
        "videos/film.mp4",
        "db/__pycache__/settings.pyc",
    ):
        assert not reaches_builder(kept_out), kept_out


# --- commands


def check_command(words: list[str]) -> None:
    """Script, subcommands and options exist."""
    module, _, function = PROJECT["scripts"][words[0]].partition(":")
    assert callable(getattr(import_module(module), function))
    command: Any = typer.main.get_command(
        cli.enqueue_alone if words[0] == "enqueue" else cli.reelvec
    )
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= options


def test_every_command_exists() -> None:
    commands = [yaml.safe_load(last(SERVICES[name]["build"]["target"], "CMD")) for name in OURS]
    commands += [SERVICES[name]["command"] for name in OURS if "command" in SERVICES[name]]
    shown = re.findall(r"docker compose run --rm producer (.+)", COMPOSE_TEXT)
    shown = [line for line in shown if not line.startswith("...")]
    assert len(shown) == 2
    commands += [shlex.split(line) for line in shown]
    assert ["reelvec", "db", "upgrade"] in commands
    assert ["reelvec", "worker"] in commands
    for words in commands:
        check_command(words)


# --- variables


@pytest.mark.parametrize("name", OURS)
def test_the_code_takes_the_environment_it_is_given(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(name)
    ours = {variable for variable in given if not variable.startswith("AWS_")}
    assert ours <= worker_settings.known_variables() | ADDRESS_VARIABLES
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    worker_settings.refuse_unknown()
    for settings_class in (DatabaseSettings, WorkerSettings, ProducerSettings):
        settings.load(settings_class)
    found = addresses.resolve(start=False)
    assert not found.local

    database, broker = urlsplit(found.database_url), urlsplit(found.broker_url)
    server = environment(str(database.hostname))
    facts = (database.username, database.path[1:], database.password)
    assert facts == (server["POSTGRES_USER"], server["POSTGRES_DB"], server["POSTGRES_PASSWORD"])
    assert broker.password == environment(str(broker.hostname))["REDISCLI_AUTH"]
    for url in (database, broker):
        assert url.port in {
            int(port.rsplit(":", 1)[1]) for port in SERVICES[str(url.hostname)]["ports"]
        }


@pytest.mark.parametrize("name", OURS)
def test_an_address_in_dotenv_is_none_for_the_containers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("REELVEC_DATABASE_URL", "REELVEC_BROKER_URL", *ADDRESS_VARIABLES):
        monkeypatch.setenv(
            variable, "postgresql://me@127.0.0.1/x" if "DATA" in variable else "redis://127.0.0.1"
        )
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    assert "127.0.0.1" not in str(addresses.resolve(start=False))


def test_no_password_is_written_down_and_none_has_a_default() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}|\$\{AWS_\w+:-\}", value), (
                    f"{name}: {variable}"
                )
        for text in strings(service):
            for password in re.findall(r"://[^/@]*:([^@/]*)@", expand(text)):
                assert password in ("<POSTGRES_PASSWORD>", "<REDIS_PASSWORD>"), f"{name}: {text}"
        command = service.get("command", [])
        if "--requirepass" in command:
            assert expand(command[command.index("--requirepass") + 1]) == "<REDIS_PASSWORD>"
    assert "--requirepass" in SERVICES["redis"]["command"]


def test_every_variable_of_compose_stands_in_the_example() -> None:
    found = [match for text in strings(SERVICES) for match in VARIABLE.finditer(text) if match[1]]
    required = {match[1] for match in found if match[2] == ":?"}
    optional = {match[1] for match in found if match[2] == ":-"}
    assert {match[3] for match in found if match[2] == ":-"} == {""}, "a variable has a default"
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == {
        f"{name}=" for name in required
    }
    assert optional <= {line[1:].partition("=")[0] for line in lines if line.startswith("#")}


def test_the_example_and_the_documentation_are_generated() -> None:
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_defaults_shown_in_the_example_are_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = (DatabaseSettings, WorkerSettings, ProducerSettings)
    before = [settings.load(one) for one in classes]
    shown = dict(
        re.findall(r"^#(REELVEC_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )
    assert shown.keys() == worker_settings.known_variables()
    assert sum(map(bool, shown.values())) > 10
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    assert [settings.load(one) for one in classes] == before


# --- ports, users, limits


def test_ports_are_published_to_this_machine_only() -> None:
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert published == {"127.0.0.1:5432:5432", "127.0.0.1:6379:6379", "127.0.0.1:8333:8333"}
    assert not any("network_mode" in service for service in SERVICES.values())
    shown = urlsplit(SERVICES["s3"]["healthcheck"]["test"][-1])
    assert f"127.0.0.1:{shown.port}:{shown.port}" in SERVICES["s3"]["ports"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    user, group = last(service["build"]["target"], "USER").split(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    assert service.keys().isdisjoint({"user", "privileged", "cap_add", "devices", "entrypoint"})
    assert service["init"] is True
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for mount in mounts(name).values():
        assert mount["type"] == "bind"
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_drains_before_it_is_killed(name: str) -> None:
    drain_seconds = WorkerSettings.model_fields["drain_seconds"].default
    assert seconds(SERVICES[name]["stop_grace_period"]) > drain_seconds + supervisor.SPARE_SECONDS
    assert last("worker", "CMD").startswith("["), "a shell in between would keep SIGTERM to itself"


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_that_hangs_is_unhealthy(name: str) -> None:
    program, option, script = SERVICES[name]["healthcheck"]["test"][1:]
    served = parse(environment(name)["REELVEC_HEALTH"])
    asked = urlsplit(re.findall(r"'(http://.+?)'", script)[0])
    assert isinstance(served, Tcp)
    assert (program, option, asked.port, asked.path) == ("python", "-c", served.port, "/healthz")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ends = []
    for status in (200, 503):
        with server.serving(
            Tcp("127.0.0.1", port), {"/healthz": lambda status=status: Answer(status, "")}
        ):  # type: ignore[misc]
            command = [sys.executable, "-c", script.replace(":9100", f":{port}")]
            ends.append(subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode)
    assert ends == [0, 1]


def test_producer_and_workers_see_the_same_folders() -> None:
    assert mounts("producer") == mounts("worker") == mounts("worker-cpu")
    for name in WORKERS:
        assert environment(name)["REELVEC_FILE_ROOTS"] in mounts(name)
        assert SERVICES[name]["env_file"] == ".env"
    for name in ("producer", *WORKERS):
        assert environment(name)["REELVEC_MODELS_DIR"] in mounts(name)


def test_what_decides_an_enqueue_is_passed_to_the_producer() -> None:
    wanted = ProducerSettings.variables() | {
        "REELVEC_MODELS_DIR",
        "REELVEC_LICENSE",
        "REELVEC_STALE_SECONDS",
    }
    wanted |= {
        "AWS_ENDPOINT_URL_S3",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
    }
    assert wanted <= environment("producer").keys()


def test_only_the_gpu_worker_reserves_gpus_and_each_worker_has_its_profile() -> None:
    reserving = [name for name, service in SERVICES.items() if "deploy" in service]
    assert reserving == ["worker"]
    (reserved,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    # with some only, device files keep their numbers while CUDA counts from 0
    assert reserved == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert environment("worker-cpu")["REELVEC_DEVICE"] == "cpu"
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {
        "producer": ["producer"],
        "worker": ["gpu"],
        "worker-cpu": ["cpu"],
        "s3": ["s3"],
    }


# --- servers and order


def test_nothing_of_ours_starts_before_what_it_needs() -> None:
    for name in OURS:
        needs = SERVICES[name]["depends_on"]
        wanted = {"postgres"} if name == "migrate" else {"migrate", "redis"}
        assert needs.keys() == wanted
        for other, how in needs.items():
            one_shot = other == "migrate"
            assert how == {
                "condition": "service_completed_successfully" if one_shot else "service_healthy"
            }
            assert one_shot != ("healthcheck" in SERVICES[other])
    assert "restart" not in SERVICES["migrate"]


def test_servers_keep_their_data() -> None:
    declared = yaml.safe_load(COMPOSE_TEXT)["volumes"].keys()
    kept = {name: SERVICES[name]["volumes"] for name in SERVERS}
    # images of Postgres 18 keep everything below /var/lib/postgresql; an older path would be an
    # unused volume
    assert kept == {
        "postgres": ["postgres:/var/lib/postgresql"],
        "redis": ["redis:/data"],
        "s3": ["s3:/data"],
    }
    assert {volume.partition(":")[0] for volumes in kept.values() for volume in volumes} == declared
    words = SERVICES["redis"]["command"][1:]
    flags = dict(zip(words[::2], words[1::2], strict=True))
    assert flags["--appendonly"] == "yes"
    assert flags["--appendfsync"] == "everysec"
    assert flags["--maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("given", [{}, {"AWS_ACCESS_KEY_ID": "a"}, {"AWS_SECRET_ACCESS_KEY": "b"}])
def test_object_storage_does_not_start_without_keys(given: dict[str, str]) -> None:
    done = run_s3_entrypoint({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", **given})
    assert done.returncode != 0
    assert "set it in .env" in done.stderr


def test_object_storage_starts_with_keys() -> None:
    done = run_s3_entrypoint({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b c"})
    assert done.stdout.split() == SERVICES["s3"]["command"]


def run_s3_entrypoint(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The entrypoint as a container would run it, with `echo` in the image's place."""
    words = [
        expand(word).replace("/entrypoint.sh", "echo") for word in SERVICES["s3"]["entrypoint"]
    ]
    words += SERVICES["s3"]["command"]
    return subprocess.run(
        words,
        env={"PATH": "/bin:/usr/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
