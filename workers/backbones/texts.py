"""What backbones with text share: prompts through a text tower, and the vectors of label sets,
which are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from db.labels import LabelSet
from workers.backbones.prompts import IdArray

if TYPE_CHECKING:
    import torch

#: Prompts in the text tower at a time: bounds memory for any label set.
TEXT_CHUNK = 64
#: Label sets whose text vectors are kept (47 prompts of 512 numbers take 96 KB).
KEPT_LABEL_SETS = 32


def pooled_texts(
    text_model: Any, ids: IdArray, mask: IdArray | None, *, device: str
) -> torch.Tensor:
    """`pooler_output` [P, width] of a transformers text tower for ids (and their mask) int64 [P,
    longest].
    """
    import torch

    pooled = []
    for start in range(0, len(ids), TEXT_CHUNK):
        rows = slice(start, start + TEXT_CHUNK)
        own_ids, own_mask = (
            None if part is None else torch.from_numpy(part[rows]).to(device)
            for part in (ids, mask)
        )
        pooled.append(text_model(input_ids=own_ids, attention_mask=own_mask).pooler_output)
    return torch.cat(pooled)


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
