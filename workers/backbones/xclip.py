"""X-CLIP-B/16, 32 frames (Ni et al. 2022): the normalised video vector, and probabilities of every
label set.

A prompt's text vector is conditioned on the window: `base + prompt_generator(base, what the patches
show)`. Only `base` (text tower and projection) is kept per label set; the generator runs for every
window. Leaving it out would be another model. Prompts do not see each other, so they may be
computed in chunks.

Only the vision tower runs in bfloat16 on a GPU: logits are 100 times a cosine, and everything
behind the tower costs
0.1 % of a window (in float32 the largest error of a probability falls from 0.016 to 0.005).
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
from workers.backbones.texts import TextModel, unit
from workers.sampling.plan import SIDE_PX

if TYPE_CHECKING:
    import torch

FULL = {"vision_config": {"patch_size": 16, "num_frames": 32}}
TINY = {
    "projection_dim": 32,
    "prompt_num_attention_heads": 2,
    "text_config": SMALL,
    "vision_config": {
        **SMALL,
        **FULL["vision_config"],
        **{"mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2},
    },
}

SPEC = Spec(
    name="x-clip",
    checkpoint="microsoft/xclip-base-patch16-zero-shot",
    ref="main",
    license="MIT",
    commercial=True,
    frames_per_window=32,
    dim=512,
    pooling="projection",
    vector="projection, normalized to length 1",
    # its processor is VideoMAE's, not CLIP's
    scale=1 / 255,
    offset=0.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    model_type="xclip",
    # a buffer that older transformers stored
    allowed_unexpected=(r"(text|vision)_model\.embeddings\.position_ids",),
    has_text=True,
    batch_windows=6,
    published=Published(
        model="XCLIPModel",
        config="XCLIPConfig",
        tiny=TINY,
        full=FULL,
        attention=("XCLIPAttention", ("q_proj", "k_proj", "v_proj")),
    ),
    vocabulary="clip",
    context_tokens=196,
    needs={
        "vision_config.num_frames": 32,
        "vision_config.image_size": SIDE_PX,
        "vision_config.num_channels": 3,
    },
    same=(("projection_dim", "vision_config.mit_hidden_size"),),
)


#: Prompts in the prompt generator of a batch at a time: bounds memory for any label set.
SCORE_CHUNK = 512


def load(weights: Weights, device: str) -> Loaded:
    return XClip(SPEC, weights, device)


class XClip(TextModel):
    """`Loaded` of X-CLIP, an `XCLIPModel`."""

    @property
    def dim(self) -> int:
        return int(self._model.config.projection_dim)

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:
        """See `Loaded`. Raises `UsageError` naming a prompt over 77 tokens."""
        import torch

        with torch.inference_mode():
            video, context = self._see(self.tower.pixels(windows))
            return Encoded(video, self._scores(video, context, label_sets), context)

    def scores(
        self, vectors: FloatArray, context: HalfArray | None, labels: LabelSet, /
    ) -> FloatArray:
        """See `ScoresLater`."""
        import torch

        with torch.inference_mode():
            video, patches = (
                torch.from_numpy(part).to(self._device, torch.float32)
                for part in (vectors, context)
            )
            probabilities = self._scores(unit(video), patches, [labels])[labels.digest]
            return np.asarray(probabilities.cpu(), np.float32)

    def _see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised video vectors [n, dim], and what the patches show, [n, 196, dim]: the mean
        over frames.
        """
        model, (windows, frames) = self._model, pixels.shape[:2]
        vision = model.vision_model(pixel_values=pixels.flatten(0, 1))
        framewise = model.visual_projection(vision.pooler_output.float()).view(windows, frames, -1)
        video = model.mit(framewise).pooler_output
        patches = model.prompts_visual_layernorm(vision.last_hidden_state[:, 1:].float())
        # projecting is linear: the mean first is the same for a 32nd of the work
        patches = patches.view(windows, frames, *patches.shape[1:]).mean(dim=1)
        return unit(video), patches @ model.prompts_visual_projection

    def _scores(
        self, video: torch.Tensor, context: torch.Tensor, label_sets: Sequence[LabelSet]
    ) -> dict[str, torch.Tensor]:
        """Probabilities [n, K] of each set: the prompts' logits, averaged per category, through a
        softmax over the K categories. The prompts of all sets go through the generator together."""
        import torch

        if not label_sets:
            return {}
        texts = [self._texts.of(labels) for labels in label_sets]  # vectors before conditioning
        logits = []
        for chunk in torch.cat([base for base, _ in texts]).split(SCORE_CHUNK):
            text = chunk.expand(len(video), -1, -1)
            text = unit(text + self._model.prompts_generator(text, context))
            logits.append(torch.einsum("nd,npd->np", video, self._model.logit_scale.exp() * text))
        parts = torch.cat(logits, dim=1).split([len(base) for base, _ in texts], dim=1)
        return {
            labels.digest: (part @ averaging).softmax(dim=-1)
            for labels, part, (_, averaging) in zip(label_sets, parts, texts, strict=True)
        }

    def _text_vectors(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text vectors before conditioning, [P, dim]."""
        projected: torch.Tensor = self._model.text_projection(self._pooled(prompts))
        return projected
