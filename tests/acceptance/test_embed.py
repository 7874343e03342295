"""`reelvec embed`: neither broker nor database, and every mistake answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import media
from tests.conftest import Desk, clean_environment
from tests.weights import make_models_dir


@pytest.fixture
def alone(tmp_path: Path) -> Desk:
    return Desk(clean_environment(), tmp_path)


def test_several_files_go_to_a_folder_and_a_bad_one_costs_only_itself(
    alone: Desk, tmp_path: Path
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1, seed=1)
    media.make_clip(tmp_path / "b.mkv", seconds=1, seed=2)
    media.html(tmp_path / "page.mp4")
    done = alone.run(
        "reelvec",
        "embed",
        "a.mp4",
        "page.mp4",
        "b.mkv",
        "--backbone",
        "probe",
        "--out",
        "out",
        expect=3,
    )
    assert "not_media" in done.stderr
    with np.load(tmp_path / "out" / "a.npz") as a, np.load(tmp_path / "out" / "b.npz") as b:
        assert a["probe/pooled"].shape == (64,)
        assert not np.array_equal(a["probe/pooled"], b["probe/pooled"])
        np.testing.assert_array_equal(a["frame_indices"][:26], [*range(25), 24])
        np.testing.assert_allclose(a["pts_seconds"][[0, 24, 95]], [0.0, 0.96, 0.96])


def test_the_notebooks_sampling_is_the_default_and_uniform_differs(
    alone: Desk, tmp_path: Path
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=7.6, width=64, height=64)
    for policy, last in (("notebook", 95), ("uniform", 188)):
        alone.run(
            "reelvec",
            "embed",
            "a.mp4",
            "--backbone",
            "probe",
            "--sampling",
            policy,
            "--out",
            f"{policy}.npz",
        )
        with np.load(tmp_path / f"{policy}.npz") as made:
            assert made["frame_indices"][-1] == last


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("nowhere.mp4",), 3, "not_found"),
        (("a.mp4", "--backbone", "vivitt"), 2, "vivit"),
        (("a.mp4", "b.mp4", "--out", "x.npz"), 2, "folder"),
        (("a.mp4", "sub/a.mp4", "--out", "x"), 2, "two videos would be written to a.npz"),
        (("a.mp4", "--out", "missing/x.npz"), 2, "there is no folder missing"),
        (("a.mp4", "--out", "x.zip"), 2, "does not end in .npz"),
        (("http://me:secret@[", "--out", "x"), 2, "http://"),
        (("a.mp4", "--labels", "missing.csv"), 2, "missing.csv"),
        (("a.mp4", "--sampling", "all"), 2, "uniform"),
        (("a.mp4", "--weights", "tiny"), 2, "random-tiny"),
    ],
)
def test_mistakes_are_answered(
    alone: Desk, tmp_path: Path, arguments: tuple[str, ...], exit_code: int, told: str
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    given = arguments if "--backbone" in arguments else (*arguments, "--backbone", "probe")
    stderr = alone.run("reelvec", "embed", *given, expect=exit_code).stderr
    assert told in stderr
    assert "secret" not in stderr


def test_labels_that_no_chosen_model_scores_are_refused(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    (tmp_path / "tags.txt").write_text("cats\ndogs\n", encoding="utf-8")
    asked = ("reelvec", "embed", "a.mp4", "--backbone", "probe", "--labels", "tags.txt")
    told = alone.run(*asked, expect=2).stderr
    assert (
        "--labels tags.txt: nothing would score them, for no model reads text of those chosen (probe)"
        in told
    )


def test_without_weights_it_says_where_they_belong(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    assert (
        "REELVEC_MODELS_DIR"
        in alone.run("reelvec", "embed", "a.mp4", "--backbone", "vivit", expect=78).stderr
    )


def test_a_models_folder_that_is_incomplete_is_refused_by_name(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    models = make_models_dir(tmp_path / "models", ["x-clip"])
    (models / "x-clip" / "tokenizer.json").unlink()
    told = alone.run("reelvec", "embed", "a.mp4", expect=78, REELVEC_MODELS_DIR=str(models)).stderr
    assert "tokenizer.json" in told


def test_a_backbone_that_fails_costs_only_its_own_vector_and_is_told(
    alone: Desk, tmp_path: Path
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    models = make_models_dir(tmp_path / "models", ["videomae"])
    path = models / "videomae" / "model.safetensors"
    tensors = load_file(path)
    tensors[max(name for name in tensors if name.endswith("layernorm_after.bias"))][:] = (
        np.nan
    )  # not the decoder's
    save_file(tensors, path, metadata={"format": "pt"})
    files = (
        "reelvec",
        "embed",
        "a.mp4",
        "--backbone",
        "probe",
        "--backbone",
        "videomae",
        "--out",
        "a.npz",
    )
    done = alone.run(*files, expect=3, REELVEC_MODELS_DIR=str(models))
    assert "a.mp4: videomae:" in done.stderr
    assert "not finite" in done.stderr
    with np.load(tmp_path / "a.npz") as made:
        assert [name for name in made.files if name.endswith("/pooled")] == ["probe/pooled"]


def test_json_has_one_object_per_file(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    media.empty(tmp_path / "b.mp4")
    done = alone.run(
        "reelvec", "embed", "a.mp4", "b.mp4", "--backbone", "probe", "--json", expect=3
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["shapes"] == {"probe": [3, 64]}
    assert second["error_code"] == "empty_file"
