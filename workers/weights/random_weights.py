"""Seeded random weights in which every parameter matters and construction order does not.

Each parameter is drawn from its own name. Positions, class tokens, biases and gains get values that
change the result, so a parameter put in the wrong place or left out is seen. The numbers are
uniform: raw generator bits turned into floats are the same on every machine, while normal deviates
go through a libm that is not.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from workers.backbones.base import FloatArray
from workers.weights.digest import tensor_line

if TYPE_CHECKING:
    import torch

#: Parameters added to tokens, and their spread.
ADDED = ("position", "time_embeddings", "cls_token", "class_embedding")
#: X-CLIP's trained temperature: logits are 100 times a cosine.
LOGIT_SCALE = math.log(100.0)


def draw(name: str, shape: tuple[int, ...]) -> FloatArray:
    """Values of one parameter, float32."""
    last = name.rsplit(".", 1)[-1]
    if last == "logit_scale":
        return np.full(shape, LOGIT_SCALE, np.float32)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.asarray(np.random.Generator(np.random.PCG64(seed)).random(shape, np.float32))
    centre, spread = _centre_and_spread(name, last, shape)
    values -= 0.5  # in place: SigLIP 2's 256,000 words are 0.8 GB
    values *= spread * math.sqrt(12)
    values += centre
    return values


def _centre_and_spread(name: str, last: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if last == "alpha":  # weight of the prompt generator's part; 0.1 in trained models
        return 0.1, 0.02
    if len(shape) == 1 and last == "weight":  # gains of layer norms
        return 1.0, 0.1
    if any(part in name for part in ADDED):
        return 0.0, 0.3
    if "token_embedding" in name:
        return 0.0, 0.5
    if len(shape) <= 1:
        return 0.0, 0.05
    # keep the spread of what flows through; every matrix is [out, in...] but this one
    fan_in = shape[0] if last == "prompts_visual_projection" else math.prod(shape[1:])
    return 0.0, 1 / math.sqrt(fan_in)


def fill(model: torch.nn.Module) -> str:
    """Fill every parameter of a float32 model on the CPU, and return the digest of all."""
    import torch

    sha = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = draw(name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))
            sha.update(tensor_line(name, "F32", values.shape))
            sha.update(values.ravel().data)
    return sha.hexdigest()
