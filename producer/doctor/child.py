"""Probes in processes of their own, and plain words for how one ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROBE_SECONDS = 90.0


class ProbeError(Exception):
    """A probe gave no facts; the message says how it ended."""


def probe(name: str) -> dict[str, Any]:
    """Facts of `producer.doctor.probes`. Raises `ProbeError`."""
    # -P: a folder of the same name in the current one must not be taken for the installed package
    facts = _run([sys.executable, "-P", "-m", "producer.doctor.probes", name], PROBE_SECONDS)
    if "error" in facts:
        raise ProbeError(str(facts["error"]))
    return facts


_ORIGINS = """
import json, sys
from importlib.util import find_spec
def place(name):
    spec = find_spec(name)
    return spec and [*(spec.submodule_search_locations or ()), spec.origin][0]
print(json.dumps({name: place(name) for name in sys.argv[1:]}))
"""


def origins_in(folder: Path, names: Sequence[str]) -> dict[str, str | None]:
    """Where Python finds modules for a program that puts `folder` first on its path, as Celery
    does. `ProbeError`.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return _run(
        [sys.executable, "-c", _ORIGINS, *names], 20.0, folder=folder, environment=environment
    )


def _run(
    command: Sequence[str],
    seconds: float,
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"it did not end within {seconds:g} s") from None
    except OSError as error:
        raise ProbeError(f"no process could be started: {error}") from error
    last = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        answer = json.loads(last)
    except ValueError:
        answer = None
    if done.returncode == 0 and isinstance(answer, dict):
        return answer
    raise ProbeError(_ending(done.returncode, done.stderr.decode(errors="replace")))


def _ending(code: int, stderr: str) -> str:
    words = stderr.strip().rpartition("\n")[2][-300:]
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"it crashed ({name}){': ' + words if words else ''}"
    return f"it ended with {code}: {words or 'and said nothing'}"
