"""What the engine computes is what the notebook computed: same weights, same frames, float32 on the
CPU.

The reference shares nothing with the product: the published classes as transformers has them (plain
attention), each picture normalised on its own in floats, one window at a time, and text through
`XCLIPModel.forward` every time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from db.encoders import Tagger
from db.labels import LabelSet
from producer.request import declared_encoder
from tests import media
from tests.weights import (
    NOTEBOOK,
    PUBLISHED,
    SMALL,
    make_models_dir,
    save_checkpoint,
    synthetic_frames,
)
from workers.engine.engine import Encoding, Engine, ModelKey
from workers.pipeline import Owed, embed_video
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Video
from workers.sources.file import open_file

ENGLISH = LabelSet(
    "en", ("Category: cooking", "Category: films", "Category: news"), ("cooking", "films", "news")
)
#: Two prompts of one category, apart from each other; not only ASCII.
SEVERAL = LabelSet(
    "several", ("кино", "a cooking show", "фильм", "news", "films"), ("f", "c", "f", "n", "f")
)

WINDOW = {"vivit": 32, "timesformer": 8, "videomae": 16, "x-clip": 32}
MEAN_STD = {
    "vivit": ((0.5,) * 3, (0.5,) * 3),
    "timesformer": ((0.45,) * 3, (0.225,) * 3),
    "videomae": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "x-clip": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def pixel_values(name: str, frames: np.ndarray) -> torch.Tensor:
    """float32 [windows, T, 3, 224, 224] as the checkpoint's image processor makes it."""
    mean, std = (np.asarray(part, np.float64) for part in MEAN_STD[name])
    pictures = []
    for frame in frames:
        scaled = frame / 127.5 - 1.0 if name == "vivit" else frame / 255.0
        pictures.append(((scaled - mean) / std).transpose(2, 0, 1).astype(np.float32))
    return torch.from_numpy(np.stack(pictures).reshape(-1, WINDOW[name], 3, 224, 224))


def input_ids(prompts: tuple[str, ...]) -> torch.Tensor:
    rows = [[49406, *(byte + 1 for byte in prompt.encode()), 49407] for prompt in prompts]
    return torch.tensor([row + [49407] * (max(map(len, rows)) - len(row)) for row in rows])


@torch.no_grad()
def reference(
    name: str, folder: Path, frames: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vector per window and, for X-CLIP, probabilities per window of both label sets."""
    published = name if (folder / "pooled").exists() else PUBLISHED[name][0]
    model_class = transformers.VivitModel if published == name else getattr(transformers, published)
    model = model_class.from_pretrained(
        folder, local_files_only=True, attn_implementation="eager"
    ).eval()
    windows = [window[None] for window in pixel_values(name, frames)]
    if name == "x-clip":
        return xclip(model, windows)
    encoder = getattr(model, name, model)
    outputs = [encoder(pixel_values=window) for window in windows]
    if model_class is transformers.VivitModel:
        vectors = [output.pooler_output for output in outputs]
    elif name == "vivit":
        vectors = [output.last_hidden_state[:, 0] for output in outputs]
    else:
        vectors = [output.last_hidden_state.mean(dim=1) for output in outputs]
    return torch.cat(vectors).numpy(), {}


def xclip(model, windows: list[torch.Tensor]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    probabilities = {}
    for labels in (ENGLISH, SEVERAL):
        ids = input_ids(labels.prompts)
        outputs = [model(input_ids=ids, pixel_values=window) for window in windows]
        logits = torch.cat([output.logits_per_video for output in outputs]).double().numpy()
        names = list(dict.fromkeys(labels.prompt_categories))
        rows = [
            [i for i, category in enumerate(labels.prompt_categories) if category == one]
            for one in names
        ]
        averaged = np.stack([logits[:, own].mean(axis=1) for own in rows], axis=1)
        exponents = np.exp(averaged - averaged.max(axis=1, keepdims=True))
        probabilities[labels.digest] = exponents / exponents.sum(axis=1, keepdims=True)
    return torch.cat([output.video_embeds for output in outputs]).numpy(), probabilities


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = make_models_dir(tmp_path_factory.mktemp("models"), NOTEBOOK)
    save_checkpoint(folder / "pooled" / "vivit", "VivitModel", "VivitConfig", SMALL)
    (folder / "pooled" / "vivit" / "pooled").touch()
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[Engine]:
    made = Engine(device="cpu", models_dir=models)
    yield made
    made.close()


def check(name: str, folder: Path, engine: Engine) -> None:
    frames = synthetic_frames(11)
    key = ModelKey(name, "pretrained")
    engine.load(key)
    label_sets = (ENGLISH, SEVERAL) if name == "x-clip" else ()
    got: Encoding = engine.submit(key, frames, label_sets, timeout_seconds=60).result(60)
    windows, probabilities = reference(name, folder / name, frames)
    assert got.windows.shape == windows.shape == (96 // WINDOW[name], windows.shape[1])
    assert cosines(got.windows, windows).min() >= 0.99999
    np.testing.assert_allclose(got.windows, windows, atol=1e-5)
    np.testing.assert_allclose(got.pooled, windows.mean(axis=0), atol=1e-5)
    assert got.probabilities.keys() == probabilities.keys()
    for digest, expected in probabilities.items():
        np.testing.assert_allclose(got.probabilities[digest], expected, atol=1e-4)
        assert expected.std() > 0.01  # else anything would agree


@pytest.mark.parametrize("name", NOTEBOOK)
def test_windows_pooled_vector_and_probabilities_agree(
    name: str, models: Path, engine: Engine
) -> None:
    check(name, models, engine)


def test_a_trained_vivit_pooler_agrees_too(models: Path) -> None:
    engine = Engine(device="cpu", models_dir=models / "pooled")
    check("vivit", models / "pooled", engine)
    engine.close()


def notebooks_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the notebook reads: every frame decoded, every r-th kept, resized and then cropped by
    Pillow; and its indices.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps, duration = float(stream.average_rate), float(stream.duration * stream.time_base)
        rate = max(1, math.floor(fps * min(60, duration) / 96))
        indices = np.clip(np.arange(0, rate * 96, rate), 0, stream.frames - 1)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    kept = []
    for index in indices:
        picture = Image.fromarray(pictures[index])
        scale = 224 / min(picture.size)
        size = (max(224, int(picture.width * scale)), max(224, int(picture.height * scale)))
        left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
        kept.append(
            picture.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
        )
    return np.stack([np.asarray(picture) for picture in kept]), indices


def test_from_a_file_to_all_four_vectors(models: Path, engine: Engine, tmp_path: Path) -> None:
    """The bar: cosine >= 0.9999, probabilities within 1e-3, frames within one level, and the same
    frames.
    """
    path = media.make_clip(
        tmp_path / "a.mp4", seconds=8, fps=25, width=320, height=180, options={"bf": "2"}
    )
    frames, indices = notebooks_frames(path)
    tagger = Tagger(1, "x-clip/en", 1, ENGLISH)
    owed = [
        Owed(
            declared_encoder(name, "pretrained", "notebook"), (tagger,) if name == "x-clip" else ()
        )
        for name in NOTEBOOK
    ]
    for item in owed:
        engine.load(item.key)
    samplers = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    try:
        with open_file(path.as_uri(), None) as source:
            result = embed_video(
                Video(source, samplers),
                owed,
                engine=engine,
                engine_seconds=60,
                stop=threading.Event(),
            )
    finally:
        samplers.close()
    taken = result.frames["notebook"]
    np.testing.assert_array_equal(taken.indices, indices)
    assert np.abs(taken.pixels.astype(int) - frames).max() <= 1
    for name in NOTEBOOK:
        windows, probabilities = reference(name, models / name, frames)
        assert cosines(result.encodings[name].windows, windows).min() >= 0.9999
        assert cosines(result.encodings[name].pooled, windows.mean(axis=0)) >= 0.9999
        if name == "x-clip":
            got = result.encodings[name].probabilities[ENGLISH.digest]
            np.testing.assert_allclose(got, probabilities[ENGLISH.digest], atol=1e-3)
