"""Random weights depend on nothing that differs between processes. In `make test` the digests of
`tests/golden/random_tiny.json` say the same.
"""

from __future__ import annotations

import os
import subprocess
import sys

from workers.engine.device import Device
from workers.engine.engine import ModelKey


def test_random_weights_are_the_same_in_another_process() -> None:
    code = """
from workers.engine.device import Device, ModelKey
device = Device("cpu", None)
for name in ("x-clip", "vivit"):
    print(device.load(ModelKey(name, "random-tiny")).digest)
"""
    settings = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=settings
    )
    device = Device("cpu", None)
    assert done.stdout.split() == [
        device.load(ModelKey(name, "random-tiny")).digest for name in ("x-clip", "vivit")
    ]
    # random weights are loud, and nothing else is said
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [
        " random-tiny weights; its vectors and tags mean nothing"
    ] * 2
