"""Prompts to CLIP token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from db.errors import RefusedConfigurationError, UsageError
from workers.backbones.weights import transformers

#: Text positions of CLIP, and the ids every prompt begins and ends with. The text vector is read at the highest id,
#: the end.
MAX_TOKENS = 77
START, END = 49406, 49407

#: A prompt to its ids, START and END included.
Tokenize: TypeAlias = Callable[[str], list[int]]
IdArray: TypeAlias = npt.NDArray[np.int64]


def byte_ids(prompt: str) -> list[int]:
    """Stand-in for random weights, which know no vocabulary: one id per UTF-8 byte, the first 75."""
    return [START, *(1 + byte for byte in prompt.encode()[: MAX_TOKENS - 2]), END]


def folder_tokenizer(folder: Path) -> Tokenize:
    """The tokenizer beside the weights: tokenizer.json, or vocab.json and merges.txt.

    Raises `RefusedConfigurationError` naming the missing file, or a file that is not CLIP's.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.exists() else _from_vocabulary(folder)
    except RefusedConfigurationError:
        raise
    except Exception as error:
        raise RefusedConfigurationError(f"the tokenizer in {folder} cannot be read: {error}") from error
    tokenizer.no_truncation()  # a prompt that is cut would score another text
    tokenizer.no_padding()
    ids = tokenizer.encode("a").ids
    if len(ids) < 3 or ids[0] != START or ids[-1] != END:
        raise RefusedConfigurationError(f"the tokenizer in {folder} is not CLIP's: 'a' is {ids}, not {START} ... {END}")
    return lambda prompt: list(tokenizer.encode(prompt).ids)


def _from_vocabulary(folder: Path) -> Any:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    for path in (vocabulary, merges):
        if not path.exists():
            raise RefusedConfigurationError(
                f"x-clip: {folder / 'tokenizer.json'} does not exist, nor {path}; copy the checkpoint's tokenizer there"
            )
    return transformers().CLIPTokenizer(vocab=str(vocabulary), merges=str(merges)).backend_tokenizer


def batch_ids(prompts: Sequence[str], tokenize: Tokenize) -> tuple[IdArray, IdArray]:
    """Ids and attention mask, int64 [P, longest]. Raises `UsageError` naming a prompt over 77 tokens."""
    rows = [tokenize(prompt) for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) > MAX_TOKENS:
            raise UsageError(f"prompt {prompt!r} is {len(row)} tokens long; X-CLIP reads {MAX_TOKENS}: shorten it")
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), END, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
