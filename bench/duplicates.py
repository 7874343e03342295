"""How similar the vectors of a copied video are to the original's, and those of a different video,
with weights that were trained: what `reelvec dedupe --above` has to tell apart.

    python -m bench.duplicates --folder FOLDER [--folder FOLDER ...] [--processes 2]

Pictures and models are those of `bench.truth`: every distinct picture becomes a clip of 8 s, H.264,
and each change below makes a copy of the finished file, as somebody does who uploads it again.
Prints the table of bench/RESULTS.md: cosines of a copy and its original, and of each clip with
that of another picture that is the most similar to it.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from bench.damage import encoded
from bench.truth import (
    HEIGHT,
    KEY_FRAMES,
    TWINS,
    WIDTH,
    Pictures,
    Vectors,
    cosines,
    pair_of,
    thumbnail,
    vector,
)
from workers.backbones.base import Weights
from workers.backbones.efficientnet import EfficientNet, load
from workers.sampling.inside import decode

Frames = list[Pictures]
SHOWN = (0.98, 0.95, 0.9)
#: Coarser than what sites publish.
COARSE = {"crf": "38"}


def smaller(frame: Pictures) -> Pictures:
    return np.asarray(Image.fromarray(frame).resize((WIDTH // 2 // 2 * 2, HEIGHT // 2 // 2 * 2)))


def with_logo(frame: Pictures) -> Pictures:
    """A white mark in the corner, 2 % of the picture."""
    marked = frame.copy()
    marked[10:44, -100:-20] = 255
    return marked


def zoomed(frame: Pictures) -> Pictures:
    """Its edges cut off, a tenth in all, and scaled up again: what hides a copy from its owner."""
    edge_x, edge_y = WIDTH // 40, HEIGHT // 40
    cut = Image.fromarray(frame[edge_y:-edge_y, edge_x:-edge_x])
    return np.asarray(cut.resize((WIDTH, HEIGHT)))


#: What is done to the decoded frames of the original, and how they are encoded again.
COPIES: Mapping[str, tuple[Callable[[Frames], Frames], Mapping[str, str]]] = {
    "encoded again, coarsely": (lambda frames: frames, COARSE),
    "at half the size": (lambda frames: [smaller(frame) for frame in frames], {}),
    "without its first second": (lambda frames: frames[25:], {}),
    "without its last quarter": (lambda frames: frames[: len(frames) * 3 // 4], {}),
    "with a logo in the corner": (lambda frames: [with_logo(frame) for frame in frames], {}),
    "its edges cut off": (lambda frames: [zoomed(frame) for frame in frames], {}),
    "first second off, half the size, coarsely": (
        lambda frames: [smaller(frame) for frame in frames[25:]],
        COARSE,
    ),
}
OTHER_CLIP = "another clip of the same picture"


@dataclass(frozen=True)
class Measured:
    """Of one picture: the original's vector, and the copies' by change; all of length 1."""

    thumbnail: Vectors
    original: Vectors
    copies: dict[str, Vectors]


_models: list[EfficientNet] = []


def measured(path: Path) -> Measured | None:
    """None for what is left out."""
    pair = pair_of(path)
    if pair is None:
        return None
    if not _models:
        torch.set_num_threads(1)
        loaded = load(Weights("pretrained"), "cpu")
        assert isinstance(loaded, EfficientNet)
        _models.append(loaded)

    def made(file: bytes) -> Vectors:
        return vector(_models[0], decode.sample(io.BytesIO(file), "notebook").pixels)

    original = encoded(pair[0], "h264", **KEY_FRAMES)
    with av.open(io.BytesIO(original)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    copies = {
        name: made(encoded(change(frames), "h264", **KEY_FRAMES, **options))
        for name, (change, options) in COPIES.items()
    }
    copies[OTHER_CLIP] = made(encoded(pair[1], "h264", **KEY_FRAMES))
    return Measured(thumbnail(pair[0][0]), made(original), copies)


def distinct(folders: list[Path], processes: int) -> list[Measured]:
    """Of all pictures in the folders, without near twins of one before."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    found: list[Measured] = []
    with ProcessPoolExecutor(processes) as pool:
        results = pool.map(measured, paths)
        for one in track(results, "clips", total=len(paths), console=Console(stderr=True)):
            if one and all(float(one.thumbnail @ other.thumbnail) < TWINS for other in found):
                found.append(one)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, action="append", required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    found = distinct(arguments.folder, arguments.processes)
    originals = np.stack([one.original for one in found])
    rows = {
        name: np.array([float(one.original @ one.copies[name]) for one in found])
        for name in (*COPIES, OTHER_CLIP)
    }
    different = cosines(originals, originals)
    np.fill_diagonal(different, -1)
    rows["the most similar other picture"] = different.max(axis=1)
    one, other = np.triu_indices(len(found), 1)
    rows["all pairs of different pictures"] = different[one, other]
    print(f"{len(found)} distinct pictures and videos\n")
    print("| | least | 5th percentile | median | most |" + "".join(f" >= {at} |" for at in SHOWN))
    print("|---|" + "---|" * (4 + len(SHOWN)))
    for name, values in rows.items():
        figures = [values.min(), np.percentile(values, 5), np.median(values), values.max()]
        shares = [f"{(values >= at).mean():.3f}" for at in SHOWN]
        print(f"| {name} | {' | '.join([*(f'{each:.4f}' for each in figures), *shares])} |")


if __name__ == "__main__":
    main()
