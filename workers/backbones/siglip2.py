"""SigLIP 2 B/16 at 224 px (Tschannen et al. 2025), picture by picture: the mean of 8 frames, text,
and tags.

A window's vector is the mean of its frames' normalised vectors, normalised: to compare it with a
text is to compare each frame and take the mean. A text's vector depends on no video, so a label
set's are made once, and any words can be searched. A probability here is a softmax over a label
set's categories; the published sigmoid judges pairs on their own. Motion is not seen.

Only the vision tower runs in bfloat16 on a GPU: logits are 100 times a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from db.labels import LabelSet
from workers.backbones.base import (
    SMALL,
    Encoded,
    FloatArray,
    HalfArray,
    Loaded,
    Published,
    Spec,
    Weights,
    Windows,
)
from workers.backbones.prompts import GEMMA
from workers.backbones.texts import TextModel, unit
from workers.sampling.plan import SIDE_PX

if TYPE_CHECKING:
    import torch

SPEC = Spec(
    name="siglip2",
    checkpoint="google/siglip2-base-patch16-224",
    ref="main",
    license="Apache-2.0",
    commercial=True,
    frames_per_window=8,
    dim=768,
    pooling="frame-mean",
    vector="mean of the pictures' normalized vectors, normalized again",
    scale=1 / 255,
    offset=0.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    model_type="siglip",
    allowed_unexpected=(),
    has_text=True,
    batch_windows=24,
    published=Published(
        model="SiglipModel",
        config="SiglipConfig",
        tiny={"text_config": {**SMALL, "vocab_size": 320}, "vision_config": SMALL},
        full={"text_config": {"vocab_size": 256000}},
        attention=("SiglipAttention", ("q_proj", "k_proj", "v_proj")),
    ),
    vocabulary="gemma",
    text_alone=True,
    needs={
        "vision_config.image_size": SIDE_PX,
        "vision_config.num_channels": 3,
        "vision_config.vision_use_head": True,
        "text_config.max_position_embeddings": GEMMA.max_tokens,
    },
    same=(("text_config.projection_size", "vision_config.hidden_size"),),
)


def load(weights: Weights, device: str) -> Loaded:
    return Siglip2(SPEC, weights, device)


class Siglip2(TextModel):
    """`Loaded` of SigLIP 2, a `SiglipModel`, and `ReadsText`."""

    @property
    def dim(self) -> int:
        return int(self._model.config.vision_config.hidden_size)

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:
        """See `Loaded`. Raises `UsageError` naming a prompt over 64 tokens."""
        import torch

        with torch.inference_mode():
            vectors = self._see(self.tower.pixels(windows))
            scores = {labels.digest: self._score(vectors, labels) for labels in label_sets}
            return Encoded(vectors, scores)

    def text_vectors(self, texts: Sequence[str]) -> FloatArray:
        """See `ReadsText`."""
        import torch

        with torch.inference_mode():
            return np.asarray(self._text_vectors(texts).cpu(), np.float32)

    def scores(
        self, vectors: FloatArray, _context: HalfArray | None, labels: LabelSet, /
    ) -> FloatArray:
        """See `ScoresLater`; a window's vector is all that its text is compared with."""
        import torch

        with torch.inference_mode():
            there = unit(torch.from_numpy(vectors).to(self._device))
            return np.asarray(self._score(there, labels).cpu(), np.float32)

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Window vectors float32 [n, dim]."""
        frames = self._model.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output.float()
        return unit(unit(frames).view(*pixels.shape[:2], -1).mean(dim=1))

    def _score(self, vectors: torch.Tensor, labels: LabelSet) -> torch.Tensor:
        """Probabilities [n, K]: the prompts' logits, averaged per category, through a softmax over
        the K categories.

        The published bias is the same for every prompt: no softmax sees it.
        """
        texts, averaging = self._texts.of(labels)
        logits = vectors @ texts.T * self._model.logit_scale.exp()
        probabilities: torch.Tensor = (logits @ averaging).softmax(dim=-1)
        return probabilities

    def _text_vectors(self, prompts: Sequence[str]) -> torch.Tensor:
        """float32 [P, dim], length 1."""
        return unit(self._pooled(prompts))
