"""The classes of ImageNet 2012 by name: what a classifier trained on it says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from db.labels import LabelSet


@cache
def labels() -> LabelSet:
    """The label set `imagenet`: 1,000 names, in the order of a classifier's output. imagenet.txt
    says where they are from.
    """
    lines = Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines()
    names = tuple(line for line in lines if not line.startswith("#"))
    return LabelSet("imagenet", names, names)
