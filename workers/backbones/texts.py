"""What backbones with text share: prompts through a text tower, and the vectors of label sets,
which are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from db.labels import LabelSet
from workers.backbones.base import Spec, Weights
from workers.backbones.prompts import tokenizer_of
from workers.weights.loading import obtain

if TYPE_CHECKING:
    import torch

#: Prompts in the text tower at a time: bounds memory for any label set.
TEXT_CHUNK = 64
#: Label sets whose text vectors are kept (47 prompts of 512 numbers take 96 KB).
KEPT_LABEL_SETS = 32


class TextModel:
    """A backbone whose vision tower is one of transformers' models with a text tower beside it.

    The model is in float32; only its vision tower computes in bfloat16 on a GPU.
    """

    def __init__(self, spec: Spec, weights: Weights, device: str) -> None:
        """Raises `RefusedConfigurationError` for weights or a tokenizer that are not `spec`'s."""
        from workers.backbones.tower import Tower

        model, self.digest = obtain(spec, weights)
        self.spec, self.pooling = spec, spec.pooling
        self._tokenizer = tokenizer_of(spec, weights)
        self._model = model.to(device)
        self.tower = Tower(model.vision_model, spec, device)
        self._device = device
        self._texts = LabelTexts(self._text_vectors, device)

    def _text_vectors(self, prompts: Sequence[str]) -> torch.Tensor:
        """What is kept of each prompt, float32 [P, dim]."""
        raise NotImplementedError

    def _pooled(self, prompts: Sequence[str]) -> torch.Tensor:
        """`pooler_output` [P, width] of the text tower. Raises `UsageError` naming a prompt that is
        too long.
        """
        import torch

        ids, mask = self._tokenizer.batch(prompts)
        pooled = []
        for start in range(0, len(ids), TEXT_CHUNK):
            own_ids, own_mask = (
                torch.from_numpy(part[start : start + TEXT_CHUNK]).to(self._device)
                for part in (ids, mask)
            )
            output = self._model.text_model(
                input_ids=own_ids,
                # a tower that reads full rows was trained to read their padding, too
                attention_mask=None if self._tokenizer.vocabulary.full else own_mask,
            )
            pooled.append(output.pooler_output)
        return torch.cat(pooled)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """The same directions with length 1, along the last axis."""
    length: torch.Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length


def averaging(labels: LabelSet) -> torch.Tensor:
    """float32 [P, K]: `logits @ averaging` are those of the K categories, each the mean of its
    prompts' logits.
    """
    import torch

    matrix = torch.zeros(len(labels.prompts), len(labels.categories))
    for row, category in enumerate(labels.prompt_categories):
        matrix[row, labels.categories.index(category)] = 1 / labels.prompt_categories.count(
            category
        )
    return matrix


class LabelTexts:
    """The text vectors of label sets, made once each by `vectors` (prompts to [P, dim] on the
    device).
    """

    def __init__(self, vectors: Callable[[Sequence[str]], torch.Tensor], device: str) -> None:
        self._vectors = vectors
        self._device = device
        self._kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, labels: LabelSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Text vectors [P, dim] and `averaging` [P, K], on the device."""
        if labels.digest not in self._kept:
            if len(self._kept) == KEPT_LABEL_SETS:
                del self._kept[next(iter(self._kept))]  # the oldest
            self._kept[labels.digest] = (
                self._vectors(labels.prompts),
                averaging(labels).to(self._device),
            )
        return self._kept[labels.digest]
