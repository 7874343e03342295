"""The registry: names and facts, without loading anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from db.errors import UsageError
from workers.backbones import registry
from workers.backbones.base import Package, Weights
from workers.backbones.prompts import VOCABULARIES
from workers.sampling.plan import FRAMES


def test_importing_every_backbone_loads_no_heavy_library() -> None:
    code = """
import sys
from workers.backbones import registry
import workers.engine.engine
specs = [registry.get(name) for name in registry.names()]
assert len(specs) > 6
print([name for name in ("torch", "transformers", "tokenizers", "av", "PIL", "sqlalchemy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'xclip' is no backbone; did you mean x-clip"):
        registry.get("xclip")
    with pytest.raises(UsageError, match="there are vivit, timesformer"):
        registry.get("zzz")


def test_an_encoder_is_told_its_backbone() -> None:
    for encoder in ("vivit-random-tiny", "vivit-uniform", "vivit-random-full-uniform"):
        with pytest.raises(
            UsageError, match=f"'{encoder}' is an encoder, and no backbone; write viv"
        ):
            registry.get(encoder)


def test_an_unknown_kind_of_weights_names_the_kinds() -> None:
    with pytest.raises(
        UsageError,
        match="'tiny' is no kind of weights; there are pretrained, random-tiny, random-full",
    ):
        Weights("tiny")


def test_each_spec_agrees_with_its_name_and_windows_fill_a_video() -> None:
    for name in registry.names():
        spec = registry.get(name)
        assert spec.name == name
        assert spec.windows_per_video * spec.frames_per_window == FRAMES
        assert spec.batch_windows % spec.windows_per_video == 0
        assert spec.has_text == (spec.vocabulary in VOCABULARIES), (
            "what reads text says in whose ids"
        )
    assert registry.get(registry.DEFAULT_SEARCHED).text_alone


def test_only_permissive_backbones_are_the_default_and_the_probe_never_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(registry.get(name).commercial for name in registry.DEFAULT_PERMISSIVE)
    assert registry.default_backbones(None) == ["efficientnet"], "as its package is installed"
    assert registry.default_backbones(tmp_path) == ["efficientnet"]
    assert registry.default_backbones(tmp_path, "random-tiny") == ["vivit", "x-clip"]
    with monkeypatch.context() as without:
        without.setattr(Package, "path", None)
        assert registry.default_backbones(None) == ["vivit", "x-clip"]
        assert registry.default_backbones(tmp_path) == ["vivit", "x-clip"]
    for name in ("videomae", "probe", "timesformer", "other"):
        (tmp_path / name).mkdir()
    assert registry.default_backbones(tmp_path) == ["timesformer", "videomae"]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("vivit",), "vivit"),
        (("vivit", "pretrained", "notebook"), "vivit"),
        (("vivit", "random-tiny"), "vivit-random-tiny"),
        (("x-clip", "pretrained", "uniform"), "x-clip-uniform"),
        (("vivit", "random-tiny", "uniform"), "vivit-random-tiny-uniform"),
    ],
)
def test_an_encoder_is_named_by_what_is_not_the_default(parts: tuple[str, ...], name: str) -> None:
    assert registry.encoder_name(*parts) == name


def test_the_affine_is_the_two_steps_of_the_checkpoints_processor() -> None:
    def ends(name: str) -> list[tuple[float, float]]:
        gain, shift = registry.get(name).affine()
        return [(shift[channel], 255 * gain[channel] + shift[channel]) for channel in range(3)]

    assert ends("vivit")[0] == pytest.approx((-3, 1))
    assert ends("timesformer")[0] == pytest.approx((-2, 0.55 / 0.225))
    imagenet = [
        (-0.485 / 0.229, 0.515 / 0.229),
        (-0.456 / 0.224, 0.544 / 0.224),
        (-0.406 / 0.225, 0.594 / 0.225),
    ]
    assert ends("siglip2")[0] == pytest.approx((-1, 1))
    for name in ("videomae", "x-clip", "vjepa2"):
        for low_high, expected in zip(ends(name), imagenet, strict=True):
            assert low_high == pytest.approx(expected)
