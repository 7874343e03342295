"""A label set: which categories a tagger chooses between, and the prompts that describe each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class LabelSet:
    """`prompts[i]` describes `prompt_categories[i]`; several prompts of one category are averaged
    as logits.
    """

    name: str
    prompts: tuple[str, ...]
    prompt_categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.prompt_categories):
            raise ValueError(
                f"label set {self.name!r}: {len(self.prompts)} prompts, "
                f"{len(self.prompt_categories)} categories"
            )

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The K categories, each once, in the order of their first prompt: the order of every
        probability vector.
        """
        return tuple(dict.fromkeys(self.prompt_categories))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of prompts and categories in order: the version of this set."""
        text = json.dumps([self.prompts, self.prompt_categories], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
