"""X-CLIP-B/16, 32 frames (Ni et al. 2022): the normalised video vector, and probabilities of every label set.

A prompt's text vector is conditioned on the window: `base + prompt_generator(base, what the patches show)`. Only `base`
(text tower and projection) is kept per label set; the generator runs for every window. Leaving it out would be another
model. Prompts do not see each other, so they may be computed in chunks.

Only the vision tower runs in bfloat16 on a GPU: logits are 100 times a cosine, and everything behind the tower costs
0.1 % of a window (in float32 the largest error of a probability falls from 0.016 to 0.005).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from db.labels import LabelSet
from workers.backbones.base import Encoded, Loaded, Spec, Weights, Windows
from workers.backbones.prompts import Tokenize, batch_ids, byte_ids, folder_tokenizer
from workers.backbones.tensors import compute_dtype, dtype_name, normalise, to_numpy
from workers.backbones.weights import folder_of, obtain

if TYPE_CHECKING:
    import torch

SPEC = Spec(
    name="x-clip",
    checkpoint="microsoft/xclip-base-patch16-zero-shot",
    ref="main",
    license="MIT",
    commercial=True,
    frames_per_window=32,
    dim=512,
    pooling="projection",
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
)

FULL = {"vision_config": {"patch_size": 16, "num_frames": 32}}
TINY = {
    "projection_dim": 32,
    "prompt_num_attention_heads": 2,
    "text_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "vision_config": {
        **FULL["vision_config"],
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        **{"mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2},
    },
}

#: Prompts in the text tower, and in the prompt generator of a batch, at a time: bounds memory for any label set.
TEXT_CHUNK, SCORE_CHUNK = 64, 512
#: Label sets whose text vectors are kept (a set of 47 prompts takes 96 KB).
KEPT_LABEL_SETS = 32


def load(weights: Weights, device: str) -> Loaded:
    model, digest = obtain(SPEC, weights, "XCLIPModel", "XCLIPConfig", tiny=TINY, full=FULL)
    tokenize = folder_tokenizer(folder_of(SPEC, weights)) if weights.kind == "pretrained" else byte_ids
    return XClip(model, digest, tokenize, device)


class XClip:
    """`Loaded` of X-CLIP. `model` is an `XCLIPModel` in float32 on the CPU; it is moved to `device`."""

    spec = SPEC
    pooling = SPEC.pooling

    def __init__(self, model: Any, digest: str, tokenize: Tokenize, device: str) -> None:
        self._compute = compute_dtype(device)
        self._model = model.to(device)
        self._model.vision_model.to(self._compute)
        self._device = device
        self._tokenize = tokenize
        self._texts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.digest = digest
        self.dim = int(model.config.projection_dim)
        self.dtype = dtype_name(self._compute)

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:
        """See `Loaded`. Raises `UsageError` naming a prompt over 77 tokens."""
        import torch

        with torch.inference_mode():
            video, context = self._see(normalise(windows, SPEC, self._compute))
            scores = {labels.digest: to_numpy(self._score(video, context, labels)) for labels in label_sets}
            return Encoded(to_numpy(video), scores)

    def _see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised video vectors [n, dim], and what the patches show, [n, 196, dim]: the mean over frames."""
        model, (windows, frames) = self._model, pixels.shape[:2]
        vision = model.vision_model(pixel_values=pixels.flatten(0, 1))
        framewise = model.visual_projection(vision.pooler_output.float()).view(windows, frames, -1)
        video = model.mit(framewise).pooler_output
        patches = model.prompts_visual_layernorm(vision.last_hidden_state[:, 1:].float())
        # projecting is linear: the mean first is the same for a 32nd of the work
        patches = patches.view(windows, frames, *patches.shape[1:]).mean(dim=1)
        return video / video.norm(dim=-1, keepdim=True), patches @ model.prompts_visual_projection

    def _score(self, video: torch.Tensor, context: torch.Tensor, labels: LabelSet) -> torch.Tensor:
        """Probabilities [n, K]: the prompts' logits, averaged per category, through a softmax over the K categories."""
        import torch

        base, averaging = self._text(labels)
        logits = []
        for chunk in base.split(SCORE_CHUNK):
            text = chunk.expand(len(video), -1, -1)
            text = text + self._model.prompts_generator(text, context)
            text = text / text.norm(dim=-1, keepdim=True)
            logits.append(torch.einsum("nd,npd->np", video, self._model.logit_scale.exp() * text))
        return (torch.cat(logits, dim=1) @ averaging).softmax(dim=-1)

    def _text(self, labels: LabelSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Text vectors before conditioning [P, dim], and the matrix [P, K] that averages prompts of one category."""
        import torch

        if labels.digest not in self._texts:
            if len(self._texts) == KEPT_LABEL_SETS:
                del self._texts[next(iter(self._texts))]  # the oldest
            averaging = torch.zeros(len(labels.prompts), len(labels.categories))
            for row, category in enumerate(labels.prompt_categories):
                averaging[row, labels.categories.index(category)] = 1 / labels.prompt_categories.count(category)
            self._texts[labels.digest] = (self._text_vectors(labels.prompts), averaging.to(self._device))
        return self._texts[labels.digest]

    def _text_vectors(self, prompts: Sequence[str]) -> torch.Tensor:
        import torch

        ids, mask = (torch.from_numpy(part).to(self._device) for part in batch_ids(prompts, self._tokenize))
        chunks = zip(ids.split(TEXT_CHUNK), mask.split(TEXT_CHUNK), strict=True)
        vectors = [self._model.text_model(input_ids=i, attention_mask=m).pooler_output for i, m in chunks]
        projected: torch.Tensor = self._model.text_projection(torch.cat(vectors))
        return projected
