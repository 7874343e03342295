"""V-JEPA 2 and SigLIP 2 give what their published classes give: same weights, same frames, float32
on the CPU.

The reference is transformers' own forward, unpatched, one window at a time, each picture normalised
on its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from db.labels import LabelSet
from tests.weights import make_models_dir, synthetic_frames
from workers.backbones import registry, vjepa2
from workers.backbones.base import Loaded, Weights
from workers.backbones.prompts import folder_tokenizer
from workers.backbones.siglip2 import Siglip2
from workers.weights.random_weights import fill

ENGLISH = LabelSet(
    "en", ("Category: cooking", "Category: films", "Category: news"), ("cooking", "films", "news")
)
#: Two prompts of one category, apart from each other; not only ASCII.
SEVERAL = LabelSet(
    "several", ("кино", "a cooking show", "фильм", "news", "films"), ("f", "c", "f", "n", "f")
)

MEAN_STD = {
    "vjepa2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "siglip2": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return make_models_dir(tmp_path_factory.mktemp("models"), MEAN_STD)


def load(name: str, models: Path) -> Loaded:
    return registry.module(name).load(Weights("pretrained", models), "cpu")


def frames_of(name: str, windows: int) -> np.ndarray:
    """uint8 [windows, T, 224, 224, 3]"""
    length = registry.get(name).frames_per_window
    return synthetic_frames(3)[: windows * length].reshape(windows, length, 224, 224, 3).copy()


def pixel_values(name: str, windows: np.ndarray) -> torch.Tensor:
    """float32 [n, T, 3, 224, 224] as the checkpoint's processor makes it of pictures of this
    size.
    """
    mean, std = (np.asarray(part, np.float64) for part in MEAN_STD[name])
    return torch.from_numpy(
        ((windows / 255.0 - mean) / std).transpose(0, 1, 4, 2, 3).astype(np.float32)
    )


@torch.no_grad()
def test_vjepa2_is_the_mean_of_the_published_encoders_tokens(models: Path) -> None:
    windows = frames_of("vjepa2", 2)
    # 224 px: the published class counts rows and columns of its grid by crop_size
    model = transformers.VJEPA2Model.from_pretrained(
        models / "vjepa2", crop_size=224, attn_implementation="eager"
    )
    outputs = [
        model.eval()(pixel_values_videos=window[None], skip_predictor=True)
        for window in pixel_values("vjepa2", windows)
    ]
    expected = torch.cat([output.last_hidden_state.mean(dim=1) for output in outputs]).numpy()
    got = load("vjepa2", models).encode(torch.from_numpy(windows), []).embeddings
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("width", "heads"), [(48, 3), (128, 2)], ids=["a quarter not turned", "heads of 64"]
)
@torch.no_grad()
def test_rotations_made_once_are_those_made_in_every_layer(width: int, heads: int) -> None:
    settings = {
        **vjepa2.TINY,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 1,
    }
    theirs = transformers.VJEPA2Model(transformers.VJEPA2Config(**settings, crop_size=224)).eval()
    fill(theirs)
    attention = theirs.encoder.layer[0].attention
    hidden = torch.from_numpy(
        np.random.Generator(np.random.PCG64(1)).standard_normal((1, 16 * 14 * 14, width))
    )
    expected, _ = attention(hidden.float())
    attention.tables = vjepa2.rotary_tables(theirs.config)
    got, _ = vjepa2.rotary_attention(attention, hidden.float())
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    cos, sin = attention.tables
    attention.tables = (cos.roll(1, 0), sin.roll(1, 0))
    assert (vjepa2.rotary_attention(attention, hidden.float())[0] - expected).abs().max() > 1e-4, (
        "positions matter"
    )


def siglip(models: Path) -> transformers.SiglipModel:
    return transformers.SiglipModel.from_pretrained(
        models / "siglip2", attn_implementation="eager"
    ).eval()


def token_ids(models: Path, labels: LabelSet) -> torch.Tensor:
    ids, _ = folder_tokenizer(registry.get("siglip2"), models / "siglip2").batch(labels.prompts)
    return torch.from_numpy(ids)


def averaged(logits: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Softmax over categories of the mean of their prompts' logits."""
    rows = [
        [i for i, own in enumerate(labels.prompt_categories) if own == one]
        for one in labels.categories
    ]
    means = np.stack([logits[:, own].mean(axis=1) for own in rows], axis=1)
    exponents = np.exp(means - means.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@torch.no_grad()
def test_siglip2_scores_a_still_as_the_published_model_does(models: Path) -> None:
    """A window of one picture, eight times: the model's own logits, bias and all, through a
    softmax.
    """
    stills = frames_of("siglip2", 2)[:, :1].repeat(8, axis=1)
    model, loaded = siglip(models), load("siglip2", models)
    encoded = loaded.encode(torch.from_numpy(stills), [ENGLISH, SEVERAL])
    pictures = pixel_values("siglip2", stills)[:, 0]
    for labels in (ENGLISH, SEVERAL):
        output = model(input_ids=token_ids(models, labels), pixel_values=pictures)
        np.testing.assert_allclose(encoded.embeddings, output.image_embeds.numpy(), atol=1e-5)
        expected = averaged(output.logits_per_image.double().numpy(), labels)
        np.testing.assert_allclose(encoded.probabilities[labels.digest], expected, atol=1e-5)
        assert expected.std() > 0.01  # else anything would agree


@torch.no_grad()
def test_siglip2_is_the_mean_of_its_pictures(models: Path) -> None:
    windows = frames_of("siglip2", 2)
    model, loaded = siglip(models), load("siglip2", models)
    ids = token_ids(models, SEVERAL)
    for number, window in enumerate(pixel_values("siglip2", windows)):
        embeds = model(input_ids=ids, pixel_values=window).image_embeds
        mean = torch.nn.functional.normalize(embeds.mean(dim=0), dim=0)
        encoded = loaded.encode(torch.from_numpy(windows[number : number + 1]), [])
        np.testing.assert_allclose(encoded.embeddings[0], mean.numpy(), atol=1e-5)
        assert (embeds - mean).abs().max() > 1e-2, "the pictures differ"
    both = loaded.encode(torch.from_numpy(windows), []).embeddings
    np.testing.assert_allclose(both[1:], encoded.embeddings, atol=1e-6)


@torch.no_grad()
def test_siglip2_text_vectors_lie_in_the_space_of_the_embeddings(models: Path) -> None:
    model, loaded = siglip(models), load("siglip2", models)
    assert isinstance(loaded, Siglip2)
    got = loaded.text_vectors(SEVERAL.prompts)
    output = model(input_ids=token_ids(models, SEVERAL), pixel_values=torch.zeros(1, 3, 224, 224))
    assert (got.dtype, got.shape) == (np.float32, (5, loaded.dim))
    np.testing.assert_allclose(got, output.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        loaded.text_vectors(["A COOKING SHOW"])[0], got[1], atol=1e-6, err_msg="case is no matter"
    )


def test_a_label_sets_texts_are_read_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("siglip2", models)
    assert isinstance(loaded, Siglip2)
    read = []
    forward = loaded._model.text_model.forward
    monkeypatch.setattr(
        loaded._model.text_model,
        "forward",
        lambda **given: read.append(len(given["input_ids"])) or forward(**given),
    )
    windows = torch.from_numpy(frames_of("siglip2", 1))
    first = loaded.encode(windows, [ENGLISH, SEVERAL]).probabilities
    again = loaded.encode(windows, [ENGLISH, SEVERAL]).probabilities
    assert read == [3, 5]
    for digest, expected in first.items():
        np.testing.assert_array_equal(again[digest], expected)
