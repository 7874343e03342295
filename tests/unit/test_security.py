"""Promises of docs/security.md that the code itself shows, and that page's own: every test it names
exists.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from db.jobs import outcome
from db.settings import DatabaseSettings
from producer.doctor import packages, probes
from producer.settings import ProducerSettings
from workers import app
from workers.settings import WorkerSettings
from workers.sources.pools import pool_options
from workers.sources.retrying import Limits

ROOT = Path(__file__).parents[2]
CODE = [path for folder in ("db", "workers", "producer") for path in (ROOT / folder).rglob("*.py")]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)`", PAGE)

#: Calls that run what they are given, or load what can: by the last two parts of their name.
FORBIDDEN = {
    "eval", "exec", "compile", "torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads",
    "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "shelve.open", "numpy.load",
}  # fmt: skip
#: Arguments that must never be true.
FORBIDDEN_ARGUMENTS = {"trust_remote_code", "shell", "allow_pickle"}


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ".".join(ast.unparse(node.func).replace("np.", "numpy.").split(".")[-2:])
            arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
            is_safe = name == "torch.load" and arguments.get("weights_only") == "True"
            if name in FORBIDDEN and not is_safe:
                yield name
            yield from (
                word for word in FORBIDDEN_ARGUMENTS if arguments.get(word, "False") != "False"
            )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            yield from names & {"pickle", "marshal", "shelve"}
            yield from (name for name in names if re.fullmatch(r"Auto[A-Z]\w+", name))
        elif isinstance(node, ast.Attribute) and re.fullmatch(
            r"Auto(Model|Config|Tokenizer|Processor)\w*", node.attr
        ):
            yield node.attr


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(p)", "torch.load(p, weights_only=flag)", "eval(x)", "import pickle", "from pickle import loads", "subprocess.run(c, shell=True)",
        "m.from_pretrained(p, trust_remote_code=flag)", "transformers.AutoModel.from_pretrained(p)", "np.load(f)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(offences(source))


def test_nothing_that_is_read_is_ever_run() -> None:
    assert len(CODE) > 100
    assert {
        str(path): found
        for path in CODE
        if (found := list(offences(path.read_text(encoding="utf-8"))))
    } == {}


def test_only_json_is_accepted_and_nothing_else_listens() -> None:
    text = Path(app.__file__).read_text(encoding="utf-8")
    for line in (
        '"accept_content": ["json"]',
        '"task_serializer": "json"',
        '"task_ignore_result": True',
        '"worker_enable_remote_control": False',
        '"worker_send_task_events": False',
    ):
        assert line in text


def test_sql_made_of_strings_is_watched() -> None:
    """Every place that puts a name into a statement says so, for a reader to judge; values are
    always bound.
    """
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"][
        "lint"
    ]
    assert "S" in ruff["select"]
    assert not any(
        rule.startswith(("S6", "S3")) and rule not in ("S603", "S607") for rule in ruff["ignore"]
    )
    assert ruff["per-file-ignores"]["db/**"] == ["E501"]


def test_an_error_text_is_cut_and_can_be_stored() -> None:
    told = outcome.clean_text("a\0b\ud800" + "x" * 5000)
    assert told.startswith("ab?x")
    assert len(told) == outcome.ERROR_TEXT_CHARACTERS <= 2000


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELVEC_DATABASE_URL", "postgresql://ann:c4n4ry@h/v")
    monkeypatch.setenv("REELVEC_BROKER_URL", "redis://:c4n4ry@h")
    shown = f"{DatabaseSettings()!r} {DatabaseSettings()} {DatabaseSettings().model_dump_json()}"
    assert "c4n4ry" not in shown
    for settings in (DatabaseSettings, WorkerSettings, ProducerSettings):
        for name, field in settings.model_fields.items():
            is_secret = re.search("password|secret|token|_key(?!_id)|(database|broker)_url", name)
            assert not is_secret or SecretStr in getattr(
                field.annotation, "__args__", (field.annotation,)
            ), name


def test_tls_is_verified() -> None:
    assert pool_options(Limits(10.0, 1.0, 1), 1)["cert_reqs"] == "CERT_REQUIRED"


def test_every_version_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) > 50
    assert [line for line in pinned if not re.match(r"[\w.-]+==\d[\w.+]*( ;.*)?$", line)] == []
    assert any(line.startswith("av==") for line in pinned), "FFmpeg comes with it"


def test_the_doctor_says_which_ffmpeg_decodes() -> None:
    assert re.search(r"^\d+\.\d+\.\d+ with FFmpeg \d+\.\d+", packages._say_av(probes.av()))


def test_the_page_names_a_test_for_every_line() -> None:
    lines = re.findall(r"^\| \d+ \|.*$", PAGE, re.MULTILINE)
    assert [int(line.split("|")[1]) for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) >= 15
    assert [line for line in lines if "`tests/" not in line] == []


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_it_names_exists(file: str, test: str) -> None:
    scope: list[ast.stmt] = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in test.split("::"):
        found = [
            node
            for node in scope
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part
        ]
        assert found, f"{file} has no {part}"
        scope = found[0].body


def test_how_to_report_is_said() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Supported versions" in text
    assert "docs/security.md" in text
