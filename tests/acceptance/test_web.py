"""Videos at web addresses, through a user's command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Desk
from tests.http_server import serving
from tests.media import make_clip


@pytest.mark.parametrize("ranges", [True, False])
def test_a_web_address_gives_the_vectors_of_its_file(
    desk: Desk, tmp_path: Path, ranges: bool
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2)
    with serving(files={"/v/clip.mp4": clip.read_bytes()}, ranges=ranges) as server:
        address = server.url("/v/clip.mp4")
        done = desk.run("reelvec", "embed", address, "--backbone", "probe", expect=None)
        assert done.returncode != 0
        assert "set REELVEC_HTTP_ALLOW_PRIVATE=true" in done.stderr
        assert not server.requests
        desk.run(
            "reelvec",
            "embed",
            address,
            "--backbone",
            "probe",
            "--out",
            "web.npz",
            REELVEC_HTTP_ALLOW_PRIVATE="true",
        )
    desk.run("reelvec", "embed", str(clip), "--backbone", "probe", "--out", "file.npz")
    with np.load(desk.folder / "web.npz") as web, np.load(desk.folder / "file.npz") as file:
        assert set(web) == set(file)
        assert all(np.array_equal(web[name], file[name]) for name in web)
