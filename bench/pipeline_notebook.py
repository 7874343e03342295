"""The loop this project replaces (one video at a time, every backbone decoding it again), in words
of its own.

Everything it is slow by is kept: every frame decoded up to the last wanted one, the wanted ones
held at full size, each made small by Pillow for every backbone, all windows of a video stacked to
one batch, float32, results to .npz at the end. What it got wrong is not: it would stop on files
without a duration, and its ViViT pooler was another one in every process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import track

from bench.pipeline_worker import Work
from producer.categories import label_sets_shipped
from workers.backbones import registry
from workers.backbones.base import Spec, Weights
from workers.sampling.plan import FRAMES, SHAPE, SIDE_PX
from workers.weights.loading import obtain

FIRST_SECONDS = 60
#: CLIP's text positions, its first id and its last, which also pads: the text vector is read at the
#: first of them.
MAX_TOKENS, START, END = 77, 49406, 49407
#: The models that the notebook had.
BACKBONES = ("vivit", "timesformer", "videomae", "x-clip")


def run(work: Work, videos: int, folder: Path) -> dict[str, Any]:
    """The first `videos` of them: videos per second once the models are there, and the first
    video's vectors.
    """
    device = "cuda" if work.on_gpu else "cpu"
    models = {name: model(name, work.weights, device) for name in work.backbones}
    if work.on_gpu:  # its libraries are loaded before the clock starts
        black = np.zeros(SHAPE, np.uint8)
        for name, loaded in models.items():
            forward(loaded, registry.get(name), pixels(black, registry.get(name)), device)
    made: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in models}
    files = work.files[:videos]
    started = time.perf_counter()
    for path in track(files, "  the notebook's loop", console=Console(stderr=True), transient=True):
        for name, loaded in models.items():
            made[name].append(
                forward(
                    loaded, registry.get(name), pixels(_frames(path), registry.get(name)), device
                )
            )
    for name, rows in made.items():
        np.savez(
            folder / f"{name}.npz",
            filenames=[path.name for path in files],
            embeddings=np.stack(rows),
        )
    seconds = time.perf_counter() - started
    vectors = {name: rows[0] for name, rows in made.items()}
    return {"videos_per_second": len(files) / seconds, "videos": len(files), "vectors": vectors}


def model(name: str, weights: str, device: str) -> Any:
    """The published class with seeded weights, in float32 on a device."""
    made, _ = obtain(registry.get(name), Weights(weights))
    return made.to(device)


def _frames(path: Path) -> npt.NDArray[np.uint8]:
    """The 96 wanted frames at full size."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        assert stream.duration is not None
        assert stream.time_base is not None
        seconds = min(FIRST_SECONDS, float(stream.duration * stream.time_base))
        step = max(1, math.floor(float(stream.average_rate) * seconds / FRAMES))
        indices = np.clip(np.arange(FRAMES) * step, 0, stream.frames - 1)
        wanted, found = set(indices.tolist()), {}
        for number, frame in enumerate(container.decode(video=0)):
            if number > indices[-1]:
                break
            if number in wanted:
                found[number] = frame
        return np.stack([found[number].to_ndarray(format="rgb24") for number in indices.tolist()])


def pixels(frames: npt.NDArray[np.uint8], spec: Spec) -> npt.NDArray[np.float32]:
    """float32 [windows, T, 3, 224, 224] as the checkpoint's image processor makes them: frame by
    frame.
    """
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    made = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(height, width)
        size = (int(SIDE_PX * width / short), int(SIDE_PX * height / short))
        left, top = (size[0] - SIDE_PX) // 2, (size[1] - SIDE_PX) // 2
        picture = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
        small = np.asarray(picture)[top : top + SIDE_PX, left : left + SIDE_PX]
        scaled = small.astype(np.float32) * np.float32(spec.scale) - np.float32(spec.offset)
        made.append(((scaled - mean) / std).transpose(2, 0, 1))
    return np.stack(made).reshape(-1, spec.frames_per_window, 3, SIDE_PX, SIDE_PX)


def forward(
    model: Any, spec: Spec, pixels: npt.NDArray[np.float32], device: str
) -> npt.NDArray[np.float32]:
    """One video's vector, in float32."""
    import torch

    inputs = {"pixel_values": torch.from_numpy(pixels)}
    if spec.has_text:  # the Russian prompts, through the text tower for every video
        ids = _token_ids(label_sets_shipped()[1].prompts)
        inputs |= {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(np.ones_like(ids)),
        }
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    with torch.no_grad():
        output = model(**inputs)
    if spec.has_text:
        output.logits_per_video.softmax(dim=-1).cpu()
        vector = output.video_embeds.mean(dim=0)
    elif getattr(output, "pooler_output", None) is not None:
        vector = output.pooler_output.mean(dim=0)
    else:
        vector = output.last_hidden_state.mean(dim=(0, 1))
    made: npt.NDArray[np.float32] = vector.cpu().numpy()
    return made


def _token_ids(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Random weights know no vocabulary: an id per byte, those that fit."""
    rows = [[START, *(byte + 1 for byte in text.encode()[: MAX_TOKENS - 2]), END] for text in texts]
    longest = max(map(len, rows))
    return np.array([row + [END] * (longest - len(row)) for row in rows])
