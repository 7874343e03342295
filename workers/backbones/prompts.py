"""Prompts to token ids. Loads neither torch nor transformers where the checkpoint brings a
tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from db.errors import RefusedConfigurationError, UsageError
from workers.backbones.base import Spec, Weights
from workers.weights.loading import folder_of, transformers

#: A prompt to its ids, those that every prompt begins and ends with included.
Tokenize: TypeAlias = Callable[[str], list[int]]
IdArray: TypeAlias = npt.NDArray[np.int64]

#: Ids every prompt of CLIP begins and ends with. The text vector is read at the highest id, the
#: end.
CLIP_START, CLIP_END = 49406, 49407
#: The class of transformers that reads a tokenizer.json's older form, vocab.json and merges.txt.
CLIP_TOKENIZER = "CLIPTokenizer"
#: Gemma's ids. SigLIP 2 reads prompts in lower case, without a start, and pools at the last of its
#: positions, which is padding for all but the longest prompts.
GEMMA_PAD, GEMMA_END = 0, 1


@dataclass(frozen=True)
class Vocabulary:
    """What a text tower reads: whose ids, and how many of them."""

    owner: str
    max_tokens: int
    #: What fills a row after a prompt, up to the longest prompt, or to `max_tokens` where the tower
    #: wants it `full`.
    padding: int
    full: bool
    #: Files in which the tokenizer comes, any one of these groups.
    files: tuple[tuple[str, ...], ...]
    #: Makes the tokenizer of a folder. Raises `RefusedConfigurationError` if it is another model's.
    read: Callable[[Path], Tokenize]
    #: For random weights, which know no vocabulary: an id per UTF-8 byte, those that fit.
    stand_in: Tokenize


@dataclass(frozen=True)
class Tokenizer:
    """One backbone's prompts to ids."""

    vocabulary: Vocabulary
    tokenize: Tokenize

    def batch(self, prompts: Sequence[str]) -> tuple[IdArray, IdArray]:
        """Ids and attention mask, int64 [P, longest]. Raises `UsageError` naming a prompt with too
        many tokens.
        """
        own = self.vocabulary
        rows = [self.tokenize(prompt) for prompt in prompts]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > own.max_tokens:
                raise UsageError(
                    f"prompt {prompt!r} is {len(row)} tokens long; {own.owner} reads "
                    f"{own.max_tokens}: shorten it"
                )
        longest = own.max_tokens if own.full else max(map(len, rows))
        ids = np.full((len(rows), longest), own.padding, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return ids, mask


def tokenizer_of(spec: Spec, weights: Weights) -> Tokenizer:
    """The tokenizer of a backbone with text: the checkpoint's, or the stand-in of random weights.

    Raises `RefusedConfigurationError` naming the missing file, or a file that is another model's.
    """
    if weights.kind != "pretrained":
        vocabulary = VOCABULARIES[str(spec.vocabulary)]
        return Tokenizer(vocabulary, vocabulary.stand_in)
    return folder_tokenizer(spec, folder_of(spec, weights))


def folder_tokenizer(spec: Spec, folder: Path) -> Tokenizer:
    """The tokenizer beside a checkpoint's weights. Raises as `tokenizer_of` does."""
    vocabulary = VOCABULARIES[str(spec.vocabulary)]
    if missing := missing_tokenizer(spec, folder):
        raise RefusedConfigurationError(
            f"{spec.name}: {missing}; copy the checkpoint's tokenizer there"
        )
    try:
        return Tokenizer(vocabulary, vocabulary.read(folder))
    except RefusedConfigurationError:
        raise
    except Exception as error:
        raise RefusedConfigurationError(
            f"the tokenizer in {folder} cannot be read: {error}"
        ) from error


def tokenizer_files(spec: Spec) -> tuple[tuple[str, ...], ...]:
    """Groups of files any one of which is the tokenizer of a backbone; none where it reads no
    text.
    """
    return VOCABULARIES[spec.vocabulary].files if spec.vocabulary else ()


def missing_tokenizer(spec: Spec, folder: Path) -> str | None:
    """Half a sentence naming the files one would look for; None if one group is whole in `folder`,
    or none is needed.
    """
    groups = [[folder / name for name in names] for names in tokenizer_files(spec)]
    if not groups or any(all(path.is_file() for path in paths) for paths in groups):
        return None
    first, *others = [next(path for path in paths if not path.is_file()) for paths in groups]
    return ", nor ".join([f"{first} does not exist", *map(str, others)])


def clip_bytes(prompt: str) -> list[int]:
    return [CLIP_START, *(1 + byte for byte in prompt.encode()[: CLIP.max_tokens - 2]), CLIP_END]


def gemma_bytes(prompt: str) -> list[int]:
    return [*(4 + byte for byte in prompt.lower().encode()[: GEMMA.max_tokens - 1]), GEMMA_END]


def read_clip(folder: Path) -> Tokenize:
    tokenizer = (
        _from_file(folder) if (folder / "tokenizer.json").exists() else _from_vocabulary(folder)
    )
    _uncut(tokenizer)
    ids = tokenizer.encode("a").ids
    if len(ids) < 3 or ids[0] != CLIP_START or ids[-1] != CLIP_END:
        raise RefusedConfigurationError(
            f"the tokenizer in {folder} is not CLIP's: 'a' is {ids}, not {CLIP_START} ... "
            f"{CLIP_END}"
        )
    return lambda prompt: list(tokenizer.encode(prompt).ids)


def read_gemma(folder: Path) -> Tokenize:
    from tokenizers import normalizers

    tokenizer = _from_file(folder)
    _uncut(tokenizer)
    found = tuple(tokenizer.token_to_id(token) for token in ("<pad>", "<eos>"))
    if found != (GEMMA_PAD, GEMMA_END):
        raise RefusedConfigurationError(
            f"the tokenizer in {folder} is not Gemma's: <pad> and <eos> are {found}, not "
            f"{(GEMMA_PAD, GEMMA_END)}"
        )
    # whether the file lowers depends on what wrote it, as does what it puts around a prompt; twice
    # changes nothing
    lower = normalizers.Lowercase()
    tokenizer.normalizer = (
        normalizers.Sequence([lower, tokenizer.normalizer]) if tokenizer.normalizer else lower
    )
    return lambda prompt: [*tokenizer.encode(prompt, add_special_tokens=False).ids, GEMMA_END]


def _from_file(folder: Path) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def _from_vocabulary(folder: Path) -> Any:
    made = getattr(transformers(), CLIP_TOKENIZER)(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    )
    return made.backend_tokenizer


def _uncut(tokenizer: Any) -> None:
    """A prompt that is cut would score another text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()


CLIP = Vocabulary(
    owner="X-CLIP",
    max_tokens=77,
    padding=CLIP_END,
    full=False,
    files=(("tokenizer.json",), ("vocab.json", "merges.txt")),
    read=read_clip,
    stand_in=clip_bytes,
)
GEMMA = Vocabulary(
    owner="SigLIP 2",
    max_tokens=64,
    padding=GEMMA_PAD,
    full=True,
    files=(("tokenizer.json",),),
    read=read_gemma,
    stand_in=gemma_bytes,
)
#: By the name in `Spec.vocabulary`.
VOCABULARIES = {"clip": CLIP, "gemma": GEMMA}
