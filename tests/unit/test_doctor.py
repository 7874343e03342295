"""What the doctor makes of facts, and how its checks are run."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from db.administration.rights import ENQUEUER, READER, WORKER
from db.administration.server_facts import PostgresFacts, VectorFacts
from db.encoders import Encoder
from db.progress.fleet import Fleet, FleetWorker
from db.stack.addresses import Addresses
from producer.commands.doctor import STYLES, summary
from producer.doctor import (
    broker,
    check,
    child,
    configuration,
    fleet,
    gpu,
    machine,
    models,
    packages,
    postgres,
    probes,
    python,
    requirements,
    storage,
)
from producer.doctor.check import Check, Finding, Status, fail, ok, skipped, warn
from producer.doctor.gpu import GpuFacts
from tests.ledgering import encoder
from workers.backbones import registry
from workers.weights import loading
from workers.weights.inventory import Held


def statuses(findings: Iterator[Finding] | list[Finding]) -> dict[str, str]:
    return {finding.name: str(finding.status) for finding in findings}


class TestRunner:
    def test_a_check_that_breaks_or_hangs_is_a_line_and_the_next_ones_run(self) -> None:
        never = threading.Event()

        def breaks() -> Iterator[Finding]:
            yield ok("before", "fine")
            raise KeyError("surprise")

        def hangs() -> Iterator[Finding]:
            yield ok("so far", "fine")
            never.wait(20)

        def leaves() -> Iterator[Finding]:
            sys.exit(3)

        checks = [
            Check("one", "breaks", breaks),
            Check("two", "hangs", hangs, seconds=0.05, early=True),
            Check("three", "leaves", leaves),
            Check("four", "works", lambda: [ok("works", "fine")]),
        ]
        found = list(check.run(checks))
        never.set()
        assert [(finding.group, finding.name, str(finding.status)) for finding in found] == [
            ("one", "before", "ok"),
            ("one", "breaks", "fail"),
            ("two", "so far", "ok"),
            ("two", "hangs", "fail"),
            ("three", "leaves", "fail"),
            ("four", "works", "ok"),
        ]
        assert "KeyError" in found[1].fact
        assert "0.05 s" in found[3].fact

    def test_secrets_are_masked_wherever_they_turn_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:sec%2Fret@h/n")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3tkey+/x")

        def tells() -> Iterator[Finding]:
            yield warn(
                "x",
                "bad login sec/ret, or sec%2Fret",
                "not s3cr3tkey+/x, use postgresql://a:hunter2@h/n\nnow",
            )
            raise ValueError("sec/ret")

        told, broke = check.run([Check("g", "x", tells)])
        assert told.fact == "bad login ***, or ***"
        assert told.advice == "not ***, use postgresql://a:***@h/n now"
        assert "sec/ret" not in broke.fact

    @pytest.mark.parametrize(
        ("findings", "line"),
        [
            ([ok("a", ""), skipped("b", "")], "all well"),
            ([warn("a", "", "")], "nothing failed, 1 to look at"),
            ([fail("a", "", "")], "1 thing to do"),
            (
                [fail("a", "", ""), fail("b", "", ""), warn("c", "", "")],
                "2 things to do, and 1 to look at",
            ),
        ],
    )
    def test_the_last_line(self, findings: list[Finding], line: str) -> None:
        assert summary(findings) == line


class TestChild:
    def run(self, code: str) -> dict[str, Any]:
        return child._run([sys.executable, "-c", code], 5.0)

    def test_facts_are_the_last_line(self) -> None:
        assert self.run("print('noise'); print('{\"a\": 1}')") == {"a": 1}

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
            ("raise SystemExit('no such thing')", "ended with 1: no such thing"),
            ("print('no facts')", "ended with 0"),
        ],
    )
    def test_an_end_without_facts_is_told(self, code: str, words: str) -> None:
        with pytest.raises(child.ProbeError, match=words):
            self.run(code)

    def test_a_hanging_one_is_ended(self) -> None:
        with pytest.raises(child.ProbeError, match=r"0\.1 s"):
            child._run([sys.executable, "-c", "import time; time.sleep(20)"], 0.1)


class TestPython:
    @pytest.mark.parametrize(
        ("version", "system", "wide", "status"),
        [
            ((3, 11, 0), "Linux", True, "ok"),
            ((3, 14, 1), "Darwin", True, "ok"),
            ((3, 10, 9), "Linux", True, "fail"),
            ((3, 12, 0), "Windows", True, "fail"),
            ((3, 12, 0), "Linux", False, "fail"),
        ],
    )
    def test_interpreter(
        self, version: tuple[int, ...], system: str, wide: bool, status: str
    ) -> None:
        assert python.judge_interpreter(version, system, "x86_64", wide).status == status

    LINES: ClassVar = [
        "redis<9,>=6.4",
        'torch>=2.11; extra == "worker"',
        'swift>=2; platform_system == "Linux"',
        "rich>=14",
    ]

    @pytest.mark.parametrize(
        ("installed", "words"),
        [
            ({"redis": "6.4", "rich": "15.0.0"}, ""),
            ({"redis": "6.4", "rich": "15.0.0", "torch": "2.13.0+cpu"}, ""),
            ({"redis": "9.0.1", "rich": "15.0.0"}, "redis 9.0.1 is not <9,>=6.4"),
            ({"redis": "7"}, "rich is missing"),
            ({"redis": "7", "rich": "14", "torch": "2.9.1"}, "torch 2.9.1 is not >=2.11"),
        ],
    )
    def test_required_packages(self, installed: dict[str, str], words: str) -> None:
        found = python.judge_requirements(self.LINES, installed.get)
        assert (found.status == "fail") == bool(words)
        assert words in found.fact

    def test_versions_are_compared_as_numbers(self) -> None:
        wanted = requirements.parse("kombu[redis]<5.10,>=5.7")
        assert [wanted.allows(version) for version in ("5.6.9", "5.7", "5.9.3.post1", "5.10.0", "6")] == [
            False, True, True, False, False,
        ]  # fmt: skip
        assert not requirements.parse("redis<9.0").allows("9")
        with pytest.raises(ValueError, match="not a requirement"):
            requirements.parse(">=3")

    def test_shadowed_names(self, tmp_path: Path) -> None:
        ours = {"workers": "/env/site-packages/workers"}
        same = python.judge_names(
            tmp_path, ours, {**ours, "torch": "/env/site-packages/torch", "av": None}
        )
        assert same.status == "ok"
        for found in (
            {"workers": str(tmp_path / "workers")},
            {"workers": None},
            {**ours, "torch": f"{tmp_path}/torch.py"},
        ):
            judged = python.judge_names(tmp_path, ours, found)
            assert judged.status == "fail"
            assert str(tmp_path) in judged.fact
        inside = python.judge_names(
            tmp_path, ours, {**ours, "torch": f"{tmp_path}/.venv/site-packages/torch"}
        )
        assert inside.status == "ok", "a virtual environment in the folder shadows nothing"

    def test_a_clone_of_reelvec_shadows_itself_and_that_is_no_failure(self, tmp_path: Path) -> None:
        ours = {name: f"/env/site-packages/{name}" for name in ("db", "workers")}
        found = {name: str(tmp_path / name) for name in ours}
        (tmp_path / "reelvec_origin.py").touch()
        judged = python.judge_names(tmp_path, ours, found)
        assert judged.status == "warn"
        assert "only plain `celery -A workers.app`" in judged.fact
        for foreign in (
            {**found, "torch": f"{tmp_path}/torch.py"},
            {**found, "db": None},
            {**found, "db": "/elsewhere/db"},
        ):
            assert python.judge_names(tmp_path, ours, foreign).status == "fail"


class TestGpu:
    GOOD = GpuFacts(
        torch="2.13.0", cuda="13.0", visible=("nvidia0",), gpus=("NVIDIA H100",), driver="580.95.05",
        asked=None, chosen="cuda:0", refused=None, hidden=False,
    )  # fmt: skip
    CPU = dataclasses.replace(GOOD, cuda=None, visible=(), gpus=(), driver=None, chosen="cpu")
    REFUSED = dataclasses.replace(GOOD, chosen=None, refused="torch says no", gpus=())

    @pytest.mark.parametrize(
        ("facts", "status", "words"),
        [
            (GOOD, "ok", "cuda:0 (NVIDIA H100), torch built for CUDA 13.0, driver 580.95.05"),
            (CPU, "ok", "shows no GPU"),
            (
                dataclasses.replace(CPU, asked="cpu", visible=("nvidia0",)),
                "ok",
                "nvidia0 stay unused",
            ),
            (
                dataclasses.replace(CPU, driver="580.1", hidden=True),
                "ok",
                "CUDA_VISIBLE_DEVICES hides",
            ),
            (dataclasses.replace(CPU, driver="580.1"), "warn", "no GPU is visible"),
            (dataclasses.replace(REFUSED, cuda=None), "fail", "torch is a build for the CPU"),
            (
                dataclasses.replace(REFUSED, driver="535.104"),
                "fail",
                "too old for torch built for CUDA 13.0, which needs 580",
            ),
            (dataclasses.replace(REFUSED, cuda="12.8", driver="535.104"), "fail", "torch says no"),
            (
                dataclasses.replace(REFUSED, cuda="12.8", driver="470.10"),
                "fail",
                "needs 525.60 or newer",
            ),
            (dataclasses.replace(REFUSED, driver=None), "fail", "no driver"),
            (
                dataclasses.replace(REFUSED, driver=None, visible=(), asked="cuda:7"),
                "fail",
                "torch says no",
            ),
        ],
    )
    def test_device(self, facts: GpuFacts, status: str, words: str) -> None:
        judged = gpu.judge(facts)
        assert (str(judged.status), bool(judged.advice)) == (status, status != "ok")
        assert words in judged.fact

    @pytest.mark.parametrize(
        ("text", "version"),
        [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 "
                "UTC 2024\nGCC",
                "550.54.14",
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build "
                " (x)\nGCC version: 12.2.0",
                "580.95.05",
            ),
            ("something else", None),
        ],
    )
    def test_the_kernels_words(self, text: str, version: str | None) -> None:
        assert gpu.parse_driver(text) == version


def test_no_worker_packages_is_a_desk_and_some_are_a_failure() -> None:
    assert packages.judge_missing(list(packages.NEEDED.values())).status == "skipped"
    node = packages.judge_missing(["torch", "transformers", "safetensors"])
    assert node.status == "skipped"
    assert "reelvec worker --stage sample" in node.fact
    some = packages.judge_missing(["av"])
    assert some.status == "fail"
    assert "pip install '.[worker]'" in some.advice


class TestPostgres:
    FACTS = PostgresFacts(
        role="ann", version="16.4", version_number=160004, encoding="UTF8", read_only=False,
        may_make_schemas=True, connections_limit=97, connections_used=10,
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "seconds", "expected"),
        [
            ({}, 0.001, {"server": "ok"}),
            ({}, 0.2, {"server": "warn"}),
            ({"version": "14.9", "version_number": 140009}, 0.001, {"server": "fail"}),
            ({"read_only": True}, 0.001, {"server": "ok", "writing": "fail"}),
            ({"encoding": "SQL_ASCII"}, 0.001, {"server": "ok", "encoding": "fail"}),
        ],
    )
    def test_server(
        self, changes: dict[str, Any], seconds: float, expected: dict[str, str]
    ) -> None:
        assert (
            statuses(postgres.judge_server(dataclasses.replace(self.FACTS, **changes), seconds))
            == expected
        )

    @pytest.mark.parametrize(
        ("facts", "status", "words"),
        [
            (
                VectorFacts("0.8.1", "0.8.1", may_install=False, schema="public"),
                "ok",
                "0.8.1 installed in schema public, and compares vectors",
            ),
            (VectorFacts(None, "0.8.1", may_install=True), "ok", "reelvec db upgrade installs it"),
            (
                VectorFacts(None, "0.8.1", may_install=False),
                "fail",
                "CREATE EXTENSION vector WITH SCHEMA public",
            ),
            (VectorFacts(None, None, may_install=False), "fail", "install pgvector 0.8 or newer"),
            (
                VectorFacts("0.7.4", "0.8.1", may_install=True),
                "fail",
                "ALTER EXTENSION vector UPDATE",
            ),
            (VectorFacts("0.7.4", "0.7.4", may_install=True), "fail", "install it on the server"),
        ],
    )
    def test_pgvector(self, facts: VectorFacts, status: str, words: str) -> None:
        judged = postgres.judge_pgvector(facts)
        assert judged.status == status
        assert words in f"{judged.fact} {judged.advice}"

    @pytest.mark.parametrize(
        ("reader", "enqueuer", "worker", "status", "fact"),
        [
            ([], [], [], "ok", "role ann may read, enqueue and work"),
            ([], [], ["INSERT on scores"], "ok", "may read and enqueue; to work it lacks INSERT on scores"),
            ([], list("abcdefg"), ["x"], "warn", "may read; to enqueue it lacks a, b, c, d, e and 2 more; to work it lacks x"),
            (["SELECT on jobs"], ["y"], ["x"], "fail", "may not read: to read it lacks SELECT on jobs"),
        ],
    )  # fmt: skip
    def test_rights(
        self, reader: list[str], enqueuer: list[str], worker: list[str], status: str, fact: str
    ) -> None:
        judged = postgres.judge_rights("ann", {READER: reader, ENQUEUER: enqueuer, WORKER: worker})
        assert judged.status == status
        assert fact in judged.fact

    def test_connections(self) -> None:
        assert postgres.judge_connections(self.FACTS, 87).status == "ok"
        assert postgres.judge_connections(self.FACTS, 88).status == "warn"


class TestBroker:
    FACTS: ClassVar[dict[str, Any]] = {
        "redis_version": "7.2.4", "role": "master", "aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction",
        "used_memory": 1 << 20, "cluster_enabled": 0,
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "expected", "words"),
        [
            ({}, {"server": "ok", "memory": "ok"}, "Redis 7.2.4, keeps messages"),
            (
                {"valkey_version": "8.1.0", "aof_enabled": 0},
                {"server": "ok", "memory": "ok"},
                "Valkey 8.1.0, may lose",
            ),
            ({"redis_version": "6.0.16"}, {"server": "fail", "memory": "ok"}, "too old"),
            (
                {"maxmemory_policy": "allkeys-lru"},
                {"server": "ok", "memory": "warn"},
                "deletes messages of the queue",
            ),
            ({"maxmemory": 1 << 20}, {"server": "ok", "memory": "warn"}, "nearly full"),
            ({"role": "slave"}, {"server": "ok", "role": "fail", "memory": "ok"}, "replica"),
            (
                {"cluster_enabled": 1},
                {"server": "ok", "cluster": "fail", "memory": "ok"},
                "cluster",
            ),
        ],
    )
    def test_server(self, changes: dict[str, Any], expected: dict[str, str], words: str) -> None:
        found = list(broker.judge({**self.FACTS, **changes}))
        assert statuses(found) == expected
        assert any(words in finding.fact for finding in found)


class TestFleet:
    def judge(self, *rows: tuple[str, float], waiting: bool = False) -> dict[str, str]:
        alive, stale = (
            tuple(
                FleetWorker("node", 1, "cpu", False, 3, 1, 2.0, 1, age, version=version)
                for version, age in rows
                if (age < 45.0) == is_alive
            )
            for is_alive in (True, False)
        )
        found = Fleet(len(alive), 0, 3, 0, None, stale=stale, workers=alive)
        return statuses(fleet.judge(found, "1.0", waiting=waiting))

    def test_workers(self) -> None:
        assert self.judge(("1.0", 2), ("1.0", 44)) == {"workers": "ok"}
        assert self.judge() == {"workers": "ok"}
        assert self.judge(waiting=True) == {"workers": "warn"}
        assert self.judge(("1.0", 46), waiting=True) == {
            "workers": "warn",
            "silent workers": "warn",
        }
        assert self.judge(("1.0", 2), ("0.9", 2)) == {"workers": "ok", "versions": "warn"}
        assert self.judge(("0.9", 2)) == {"workers": "ok", "versions": "warn"}, (
            "also when only this machine differs"
        )


class TestMachine:
    def test_cores(self) -> None:
        assert machine.judge_cores(7, 8).status == "ok"
        assert machine.judge_cores(1, 1).status == "ok"
        judged = machine.judge_cores(31, 4)
        assert judged.status == "warn"
        assert "REELVEC_SAMPLERS=3" in judged.advice

    def test_memory(self) -> None:
        assert machine.judge_memory(4, 9, 32 << 30).status == "ok"
        assert machine.judge_memory(64, 129, 16 << 30).status == "warn"
        assert machine.judge_memory(4, 9, None).status == "skipped"

    def test_open_files(self) -> None:
        assert machine.judge_files(4, 9, 1024, 1024).status == "ok"
        assert "ulimit -n" in machine.judge_files(64, 129, 256, 4096).advice
        assert "hard limit" in machine.judge_files(64, 129, 256, 256).advice

    def test_disk(self, tmp_path: Path) -> None:
        assert machine.judge_disk("models", tmp_path, 6 << 30).status == "ok"
        assert machine.judge_disk("models", tmp_path, 4 << 30).status == "warn"
        assert machine._existing(tmp_path / "not" / "yet") == tmp_path

    def test_what_the_kernel_says(self) -> None:
        assert machine.parse_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n") == 2 << 20
        assert machine.parse_available("") is None


class TestModels:
    def held(self, backbone: str = "vivit", **facts: Any) -> Held:
        return Held(
            **{
                "backbone": backbone,
                "checkpoint": "c",
                "ref": "main",
                "license": "MIT",
                "state": "fetched",
                **facts,
            }
        )

    def judge(self, *held: Held, allowed: str = "any", desk: bool = False) -> dict[str, str]:
        return statuses(models.judge(held, ["vivit"], "/models", allowed, desk=desk))

    def test_folders(self) -> None:
        assert self.judge(self.held(), self.held("x-clip", state="missing")) == {"vivit": "ok"}
        assert self.judge(self.held(state="damaged", problem="cut")) == {"vivit": "fail"}
        assert self.judge(self.held(state="missing")) == {"models": "warn"}
        assert self.judge(self.held(state="missing"), desk=True) == {"models": "skipped"}

    def test_a_folder_of_another_name_is_named(self) -> None:
        hint = "found /models/vivit_model, expected /models/vivit: rename it"
        found = list(
            models.judge(
                [self.held(state="missing", problem=hint)], ["vivit"], "/models", "any", desk=False
            )
        )
        assert found[0].fact == "found /models/vivit_model, expected /models/vivit"

    def test_of_weights_put_there_by_hand_no_license_is_known(self) -> None:
        (found,) = models.judge(
            [self.held(state="by hand", license=None)], ["vivit"], "/models", "any", desk=False
        )
        assert "put there by hand, so its license is not known" in found.fact

    def test_license(self) -> None:
        free, restricted = self.held(), self.held("videomae", license="CC-BY-NC-4.0")
        assert self.judge(free, restricted) == {"vivit": "ok", "videomae": "ok"}
        assert self.judge(free, restricted, allowed="commercial") == {
            "vivit": "ok",
            "videomae": "warn",
        }

    def test_what_videos_wait_for(self) -> None:
        def judge(wanted: Encoder, held: Held, *, desk: bool = False) -> list[str]:
            return [
                str(finding.status)
                for finding in models.judge_wanted([wanted], {"vivit": held}, desk=desk)
            ]

        wanted = encoder("vivit")
        bound = dataclasses.replace(wanted, weights_digest="aaa")
        assert judge(wanted, self.held(state="missing")) == ["fail"]
        assert judge(wanted, self.held(state="missing"), desk=True) == []
        assert (
            judge(dataclasses.replace(wanted, weights="random-tiny"), self.held(state="missing"))
            == []
        )
        assert judge(bound, self.held(weights_digest="aaa")) == []
        assert judge(bound, self.held(weights_digest="bbb")) == ["fail"]
        assert judge(bound, self.held()) == [], (
            "weights put there by hand have no digest until they are read"
        )

    def test_a_folder_by_hand_is_looked_into(self, tmp_path: Path) -> None:
        def problem(backbone: str) -> str:
            found = models._incomplete(backbone, tmp_path)
            return found.fact if found else ""

        folder = tmp_path / "x-clip"
        folder.mkdir()
        assert "config.json" in problem("x-clip")
        (folder / "config.json").write_text("{}")
        assert "model.safetensors" in problem("x-clip")
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        whole = len(header).to_bytes(8, "little") + header + bytes(4)
        (folder / "model.safetensors").write_bytes(whole[:-1])
        assert "no whole safetensors file" in problem("x-clip")
        (folder / "model.safetensors").write_bytes(whole)
        assert "tokenizer.json" in problem("x-clip")
        (folder / "tokenizer.json").write_text("{}")
        assert problem("x-clip") == ""
        (folder / "tokenizer.json").unlink()
        for name in ("vocab.json", "merges.txt"):
            (folder / name).write_text("{}")
        assert problem("x-clip") == ""
        folder.rename(tmp_path / "siglip2")
        assert f"{tmp_path}/siglip2/tokenizer.json does not exist: its tags need" in problem(
            "siglip2"
        )


class TestConfiguration:
    def test_every_wrong_variable_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REELVEC_SAMPLER", "1")
        monkeypatch.setenv("REELVEC_DATABSE_URL", "x")
        monkeypatch.setenv("REELVEC_SAMPLERS", "many")
        found = list(configuration.variables())
        assert [str(finding.status) for finding in found] == ["fail"] * 3
        assert [finding.advice for finding in found[:2]] == [
            "did you mean REELVEC_DATABASE_URL?",
            "did you mean REELVEC_SAMPLERS?",
        ]
        assert "REELVEC_SAMPLERS='many'" in found[2].fact

    def test_file_roots(self, tmp_path: Path) -> None:
        assert storage.judge_root(tmp_path).status == "ok"
        assert storage.judge_root(tmp_path / "gone").status == "fail"
        if os.geteuid() != 0:
            tmp_path.chmod(0)
            assert storage.judge_root(tmp_path).status == "fail"
            tmp_path.chmod(0o700)


def test_every_status_has_a_style() -> None:
    assert set(STYLES) == {str(status) for status in Status}


def _broker_findings(monkeypatch: pytest.MonkeyPatch, url: str) -> list[Finding]:
    where = Addresses("postgresql+psycopg2://h/v", url, local=False)
    monkeypatch.setattr(broker, "servers", lambda: where)
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.2)
    return list(check.run(broker.checks()))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@127.0.0.1:1/0?ssl_cert_reqs=none",
        "rediss://:s3cret@127.0.0.1:1/0",
        "redis+socket:///nowhere.sock",
        "redis://[::1]:1/0",
        "redis://127.0.0.1:1/0;redis://127.0.0.1:1/1",
        "redis://127.0.0.1:1/0?no_such=1",
    ],
)
def test_an_odd_broker_address_breaks_no_check(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    found = [
        finding for finding in _broker_findings(monkeypatch, url) if finding.status is Status.FAIL
    ]
    assert found
    assert all("does not answer" in finding.fact for finding in found)
    assert "s3cret" not in str(found)


def test_tls_that_checks_no_certificate_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _broker_findings(monkeypatch, "rediss://127.0.0.1:1/0")[0]
    assert (first.status, first.advice) == (
        Status.WARN,
        "add ?ssl_cert_reqs=required to the address",
    )


def test_the_classes_of_every_backbone_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Library:
        __version__ = "5.17"

        def __getattr__(self, name: str) -> None:
            tried.append(name)

    monkeypatch.setattr(loading, "transformers", Library)
    facts = probes.transformers()
    classes = [spec.published.model for spec in registry.specs() if spec.published]
    assert tried == ["CLIPTokenizer", *classes]
    assert len(classes) > 5
    said = packages._say_transformers(facts)
    assert said == f"5.17, the classes of all {len(classes)} models load"
