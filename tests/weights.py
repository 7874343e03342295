"""Small checkpoints of the published classes, made on the spot, and frames to encode.

What is published are task models: with a classifier or a decoder the embedding has no use for,
ViViT without a pooler. Weights are drawn per parameter name, so they are the same in every run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.weights.loading import transformers
from workers.weights.random_weights import fill

#: The published class of each backbone, its config, and what makes it small. 48 and 3 heads: not
#: random-tiny's shape.
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 72,
}
PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vivit": ("VivitForVideoClassification", "VivitConfig", {**SMALL, "num_labels": 5}),
    "timesformer": (
        "TimesformerForVideoClassification",
        "TimesformerConfig",
        {**SMALL, "num_labels": 5},
    ),
    "videomae": (
        "VideoMAEForPreTraining",
        "VideoMAEConfig",
        {
            **SMALL,
            "use_mean_pooling": False,
            "decoder_hidden_size": 24,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 24,
        },
    ),
    "x-clip": (
        "XCLIPModel",
        "XCLIPConfig",
        {
            "projection_dim": 24,
            "prompt_num_attention_heads": 3,
            "text_config": {**SMALL, "hidden_size": 24},
            "vision_config": {
                **SMALL,
                "patch_size": 16,
                "num_frames": 32,
                "mit_hidden_size": 24,
                "mit_intermediate_size": 48,
                "mit_num_attention_heads": 3,
            },
        },
    ),
    "vjepa2": (
        "VJEPA2Model",
        "VJEPA2Config",
        {
            **{"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 2},
            **{"pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2},
        },
    ),
    "siglip2": (
        "SiglipModel",
        "SiglipConfig",
        {"text_config": {**SMALL, "vocab_size": 270}, "vision_config": SMALL},
    ),
}
#: Those the notebook had.
NOTEBOOK = ("vivit", "timesformer", "videomae", "x-clip")


def make_models_dir(path: Path, names: Iterable[str] = tuple(PUBLISHED)) -> Path:
    """Folders as `save_pretrained` writes them, one per backbone, in `path`: a
    REELVEC_MODELS_DIR.
    """
    for name in names:
        save_checkpoint(path / name, *PUBLISHED[name])
        if name in TOKENIZERS:
            TOKENIZERS[name](path / name)
    return path


def save_checkpoint(folder: Path, model: str, config: str, settings: dict[str, Any]) -> None:
    """One model of transformers class `model`, filled and saved."""
    library = transformers()
    made = getattr(library, model)(getattr(library, config)(**settings))
    fill(made)
    if (
        model == "XCLIPModel"
    ):  # cooler than a trained one: probabilities near 0 and 1 would hide differences
        made.logit_scale.data.fill_(math.log(5.0))
    made.save_pretrained(folder)


def write_clip_tokenizer(folder: Path) -> None:
    """A tokenizer.json with CLIP's start and end and one id (byte + 1) per UTF-8 byte between
    them.
    """
    from tokenizers import pre_tokenizers

    # the printable characters that stand for bytes, in the order of the bytes they stand for
    shown = {character: index for index, character in enumerate(_byte_characters())}
    assert set(shown) == set(pre_tokenizers.ByteLevel.alphabet())
    ends = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": value, "content": key, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for key, value in ends.items()
        ],
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": ["<|endoftext|>", 49407],
            "cls": ["<|startoftext|>", 49406],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "model": {
            "type": "BPE",
            "merges": [],
            "vocab": {key: 1 + byte for key, byte in shown.items()} | ends,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def write_gemma_tokenizer(folder: Path) -> None:
    """A tokenizer.json of Gemma's kind: its special tokens, a token per byte, some merges, and
    `<bos>` before a text.
    """
    words = ["▁", "a", "c", "t", "ca", "cat", "▁cat"]
    tokens = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *words,
    ]
    content = {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": 64,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "added_tokens": [
            {"id": index, "content": tokens[index], "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for index in range(4)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<bos>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [["c", "a"], ["ca", "t"], ["▁", "cat"]],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


#: What writes a tokenizer beside the weights.
TOKENIZERS = {"x-clip": write_clip_tokenizer, "siglip2": write_gemma_tokenizer}


def _byte_characters() -> list[str]:
    """For each byte the character byte-level vocabularies write for it: itself if printable, else
    one from 256 on.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def synthetic_frames(seed: int) -> npt.NDArray[np.uint8]:
    """uint8 [96, 224, 224, 3]: a picture of 8 px blocks that slides a block a frame. Integers
    only.
    """
    picture = np.random.Generator(np.random.PCG64(seed)).integers(
        0, 256, (28, 28 + 96, 3), dtype=np.uint8
    )
    return np.stack(
        [picture[:, index : index + 28].repeat(8, axis=0).repeat(8, axis=1) for index in range(96)]
    )
