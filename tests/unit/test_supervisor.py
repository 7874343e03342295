"""Which GPUs get a process, what each is told, and what becomes of one that ends. The processes
here are small shells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.errors import UsageError
from workers.ending.end_signals import SIGNALS
from workers.node import notice, supervisor
from workers.node.supervisor import Child, next_delay_seconds


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shortest of delays, three GPUs, and this process's own handlers of signals afterwards."""
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-abc")
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("wanted", "device", "gpus"),
    [
        ("all", None, ["0", "1", "GPU-abc"]),
        ("all", "cuda:0", ["0", "1", "GPU-abc"]),
        ("all", "cpu", []),
        ("none", None, []),
        ("none", "cuda:0", []),
        ("GPU-abc, 0", None, ["GPU-abc", "0"]),
        ("1,1", None, ["1"]),
    ],
)
def test_which_gpus(wanted: str, device: str | None, gpus: list[str]) -> None:
    assert supervisor.choose_gpus(wanted, device) == gpus


@pytest.mark.parametrize(
    ("wanted", "device", "told"),
    [
        ("7", None, "'7'.*shows GPUs 0, 1, GPU-abc"),
        ("0,x", None, "'x'"),
        ("", None, "''"),
        ("0", "cpu", "contradicts"),
    ],
)
def test_gpus_that_are_not_there(wanted: str, device: str | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        supervisor.choose_gpus(wanted, device)


def test_a_machine_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert supervisor.choose_gpus("all", None) == []
    with pytest.raises(UsageError, match="shows no GPU"):
        supervisor.choose_gpus("0", None)


def test_each_process_gets_its_gpu_and_knows_how_many_share_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = supervisor.environment_of("3", 8)
    assert (made["CUDA_VISIBLE_DEVICES"], made["REELVEC_PROCESSES"]) == ("3", "8")
    assert "REELVEC_DEVICE" not in made
    monkeypatch.setenv("REELVEC_DEVICE", "cuda:0")
    monkeypatch.setenv("REELVEC_PROCESSES", "16")  # another supervisor has the other eight
    assert supervisor.environment_of("3", 8)["REELVEC_PROCESSES"] == "16"
    made = supervisor.environment_of(None, 1, on_cpu=True)
    assert (made["CUDA_VISIBLE_DEVICES"], made["REELVEC_DEVICE"]) == ("", "cpu")


def test_the_delay_grows_while_it_dies_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 5.0)
    delays = [0.0]
    for lived_seconds in (0, 1, 30, 599, 20, 20, 600, 1):
        delays.append(next_delay_seconds(delays[-1], lived_seconds))
    assert delays[1:] == [5, 10, 20, 40, 60, 60, 5, 10]


def child(name: str, script: str) -> Child:
    return Child(name, ["sh", "-c", script], {"PATH": os.environ["PATH"]})


def counting(path: Path, script: str) -> str:
    """A script that writes down each of its starts; `$n` is the how manieth it is."""
    return f"echo >> {path}; n=$(wc -l < {path}); {script}"


def starts(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def when(condition: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Do something to the supervisor in the main thread once a condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + 20
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def draining(ready: Path, told: Path) -> str:
    """A worker that says when it is ready, and when it was told to end."""
    return f"trap 'echo >> {told}; exit 0' TERM; echo >> {ready}; while :; do sleep 0.02; done"


@pytest.mark.parametrize("code", [1, 17, 69, 70, 71, 72, 73, 75])
def test_one_that_dies_is_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    count = tmp_path / "starts"
    dying = child("gpu0", counting(count, f"[ $n -ge 3 ] || exit {code}"))
    assert supervisor.supervise([dying]) == 0
    assert starts(count) == 3
    assert f"worker gpu0 ended with {code}; starting it again in 0.02 s" in capsys.readouterr().err


def test_one_that_recycles_is_started_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = tmp_path / "starts"
    monkeypatch.setattr(
        supervisor, "next_delay_seconds", lambda *_: pytest.fail("it must not wait")
    )
    assert supervisor.supervise([child("gpu0", counting(count, "[ $n -ge 3 ] || exit 76"))]) == 0
    assert starts(count) == 3
    assert "worker gpu0 ended with 76; starting it again at once" in capsys.readouterr().err


def test_one_killed_by_a_signal_is_started_again(tmp_path: Path) -> None:
    count = tmp_path / "starts"
    assert supervisor.supervise([child("gpu0", counting(count, "[ $n -ge 2 ] || kill -9 $$"))]) == 0
    assert starts(count) == 2


@pytest.mark.parametrize("code", [2, 4, 78])
def test_one_that_refused_is_not_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    refused, other = tmp_path / "refused", tmp_path / "other"
    children = [
        child("gpu0", counting(refused, f"exit {code}")),
        child("gpu1", counting(other, "[ $n -ge 3 ] || exit 1; exit 0")),
    ]
    assert supervisor.supervise(children) == code
    assert (starts(refused), starts(other)) == (1, 3)
    assert f"worker gpu0 ended with {code} and is not started again" in capsys.readouterr().err
    assert children[0].said == f"ended with {code} and is not started again"


def test_one_that_waits_to_be_started_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_dead, other = tmp_path / "dead", tmp_path / "other"
    monkeypatch.setattr(
        supervisor, "next_delay_seconds", lambda *_: 60.0 if starts(other) == 0 else 0.01
    )
    children = [
        child("gpu0", counting(long_dead, "exit 1")),
        child("gpu1", f"while [ ! -s {long_dead} ]; do sleep 0.01; done; sleep 0.1;"
                      + counting(other, "[ $n -ge 3 ] || exit 1; exec sleep 60")),
    ]  # fmt: skip
    stopper = when(lambda: starts(other) >= 3, terminate)
    started = time.monotonic()
    supervisor.supervise(children)
    stopper.join()
    assert (starts(long_dead), starts(other)) == (1, 3)
    assert time.monotonic() - started < 20, "and both end at once when told to"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_reaches_every_process_as_sigterm_and_its_answer_is_waited_for(
    tmp_path: Path, number: signal.Signals
) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    script = draining(ready, told)
    children = [child("gpu0", script), child("gpu1", script)]
    assert [one.running_seconds() for one in children] == [None, None]
    running: list[float | None] = []

    def twice() -> None:
        running.extend(one.running_seconds() for one in children)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    # a script may be ready before whoever started it knows of it
    stopper = when(
        lambda: starts(ready) == 2 and None not in [one.running_seconds() for one in children],
        twice,
    )
    assert supervisor.supervise(children) == 0
    stopper.join()
    assert starts(told) == 2
    assert len(running) == 2
    assert [one.running_seconds() for one in children] == [None, None]


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def hang_up_then_terminate() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        terminate()

    stopper = when(lambda: starts(ready) == 1, hang_up_then_terminate)
    assert supervisor.supervise([child("gpu0", draining(ready, told))]) == 0
    stopper.join()


def test_a_spot_notice_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "INTERVAL_SECONDS", 0.02)
    ready, told = tmp_path / "ready", tmp_path / "told"
    children = [child(name, draining(ready, told)) for name in ("gpu0", "gpu1")]
    assert (
        supervisor.supervise(children, spot_notice=f"[ -e {ready} ] && [ $(wc -l < {ready}) = 2 ]")
        == 0
    )
    assert starts(told) == 2


@pytest.mark.parametrize(
    ("script", "code"), [("exit 76", 0), ("kill -TERM $$", 0), ("exit 75", 75), ("exit 1", 1)]
)
def test_what_a_process_that_was_told_to_end_may_end_with(
    tmp_path: Path, script: str, code: int
) -> None:
    """Still starting it dies of the SIGTERM itself; about to recycle it ends with 76."""
    ready = tmp_path / "ready"
    answer = f"trap 'trap - TERM; {script}' TERM; echo >> {ready}; while :; do sleep 0.02; done"
    stopper = when(lambda: starts(ready) == 1, terminate)
    assert supervisor.supervise([child("gpu0", answer)]) == code
    stopper.join()


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = child("gpu0", f"trap '' TERM; echo >> {ready}; while :; do sleep 0.02; done")
    stubborn.stop_seconds = 0.1
    stopper = when(lambda: starts(ready) == 1, terminate)
    assert supervisor.supervise([stubborn]) == 128 + signal.SIGKILL
    stopper.join()


def test_the_end_of_the_supervisor_reaches_its_processes_however_it_came(tmp_path: Path) -> None:
    """A supervisor of its own, killed with SIGKILL: both of its processes see their pipe end,
    though one knows the other.
    """
    ready, told = tmp_path / "ready", tmp_path / "told"
    script = (
        f"[ -e /dev/fd/$REELVEC_LIFELINE_FD ] && echo >> {ready}; read nothing "
        f"<&$REELVEC_LIFELINE_FD; echo >> {told}"
    )
    program = (
        "import sys; from workers.node import supervisor; supervisor.command_of = lambda name: "
        "['sh', '-c', sys.argv[1]];supervisor.run()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, script],
        env={"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "0,1"},
    )
    when(lambda: starts(ready) == 2, process.kill).join()
    assert process.wait() == -signal.SIGKILL
    when(lambda: starts(told) == 2, lambda: None).join()
    assert starts(told) == 2


def test_a_program_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = threading.Event()
    monkeypatch.setattr(supervisor, "next_delay_seconds", lambda *_: again.set() or 60.0)
    stopper = when(again.is_set, terminate)
    assert supervisor.supervise([Child("gpu0", ["/nonexistent/program"], {})]) == 126
    stopper.join()
    assert (
        "worker gpu0 [Errno 2] No such file or directory: '/nonexistent/program'"
        in capsys.readouterr().err
    )
