"""What `reelvec sample` does: the frames that a worker would look at, taken the way a worker takes
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from producer.local.targets import whole_file
from producer.local.videos import LocalVideos
from workers.sampling import policies
from workers.sampling.frames import Frames, FrameSource, refusal
from workers.sampling.plan import FRAMES
from workers.sources.schemes import key_of

if TYPE_CHECKING:
    from PIL.Image import Image

#: Frames in a row of the table, and what stands between two of them.
TABLE_COLUMNS, TABLE_GAP = 6, "    "


@dataclass(frozen=True)
class Sampled:
    """One video's frames. `wall_seconds`: from opening it; for the first video a sampler process
    starts in that time.
    """

    file: str
    policy: str
    frames: Frames
    size_bytes: int
    wall_seconds: float
    written: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        made = self.frames
        return {
            "file": self.file,
            **vars(made.facts),
            "frame_count": made.frame_count,
            "frames_decoded": made.frames_decoded,
            "decode_mode": made.decode_mode,
            "decode_errors": made.decode_errors,
            "damaged_share": made.damaged_share,
            "size_bytes": self.size_bytes,
            "bytes_read": made.bytes_read,
            "fetch_seconds": made.fetch_seconds,
            "decode_cpu_seconds": made.decode_seconds,
            "wall_seconds": self.wall_seconds,
            "etag": made.version,
            "frame_indices": made.indices.tolist(),
            "pts_seconds": [round(seconds, 6) for seconds in made.pts_seconds.tolist()],
        }

    def facts(self) -> dict[str, str]:
        """What there is to say, in words, by subject."""
        made, video = self.frames, self.frames.facts
        words = {
            "video": f"{video.codec}, {video.width_px} x {video.height_px}, {video.fps:.5g} fps, "
            f"{video.duration_seconds:.1f} s, {made.frame_count:,} frames",
            "decoded": f"{made.frames_decoded:,} of {made.frame_count:,} frames, "
            f"{_mode(made.decode_mode)}",
            "damaged": _damage(made),
            "read": f"{made.bytes_read:,} of {self.size_bytes:,} bytes "
            f"({made.bytes_read / self.size_bytes:.0%})",
            "time": f"fetch {made.fetch_seconds:.3f} s, decode {made.decode_seconds:.3f} s of CPU, "
            f"{self.wall_seconds:.3f} s in all",
            "frames": f"{_range(made.indices)}, policy {self.policy}",
        }
        return {subject: said for subject, said in words.items() if said}

    def table(self) -> list[str]:
        """Lines with position and time of each frame; one that fills several slots is there
        once.
        """
        made = self.frames
        _, slots = np.unique(made.indices, return_index=True)
        cells = [f"{made.indices[slot]:>5} {made.pts_seconds[slot]:>5.2f}s" for slot in slots]
        head = ["frame   time"] * min(TABLE_COLUMNS, len(cells))
        rows = [
            cells[start : start + TABLE_COLUMNS] for start in range(0, len(cells), TABLE_COLUMNS)
        ]
        return [TABLE_GAP.join(row) for row in (head, *rows)]


class Sampling(LocalVideos):
    """One sampler process for as many videos as are named. All that can be refused without reading
    one is refused first.

    Raises `UsageError`: an address that is none, an unknown policy, targets that cannot be written.
    """

    def __init__(
        self, files: Sequence[str], *, policy: str, out: Path | None, sheet: Path | None
    ) -> None:
        super().__init__(files)
        self._policy = policies.get(policy).name
        self._arrays = self._targets("--out", out, ".npz")
        self._sheets = self._targets("--sheet", sheet, ".png")

    def sample(self, number: int) -> Sampled:
        """Sample the video of this number and write what was asked for. Raises `VideoError`,
        `UsageError`.
        """
        started = time.monotonic()
        video = self.videos[number]
        with self.open(number) as source:
            made = sampled(source, video.shown, self._policy, started=started)
        paths = [written[number] for written in (self._arrays, self._sheets) if written]
        made = replace(made, written=tuple(map(str, paths)))
        if self._arrays:
            _write_arrays(made, self._arrays[number])
        if self._sheets:
            _write_sheet(made, key_of(video.uri).rpartition("/")[2], self._sheets[number])
        return made


def sampled(
    source: FrameSource,
    shown: str,
    policy: str,
    *,
    started: float | None = None,
    stop: threading.Event | None = None,
) -> Sampled:
    """The frames of a source that is open; `shown` is what it is called, `started` when it was
    opened. Raises as `FrameSource.frames`.
    """
    since = time.monotonic() if started is None else started
    frames = source.frames(policy, stop=stop)
    return Sampled(shown, policy, frames, source.size_bytes, time.monotonic() - since)


def drawn(made: Sampled, title: str) -> Image:
    """The contact sheet of one video."""
    from workers.sampling.sheet import contact_sheet

    frames = made.frames
    return contact_sheet(
        frames.pixels, frames.indices, frames.pts_seconds, title=title, facts=made.facts()
    )


def _mode(decode_mode: str) -> str:
    return (
        "full: its timestamps or its codec allow no sparse decoding"
        if decode_mode == "full"
        else decode_mode
    )


def _damage(made: Frames) -> str:
    """Nothing of a file that has none. A hole is damage without an error."""
    reported = f"{made.decode_errors:,} packets or frames, " if made.decode_errors else ""
    if not reported and not made.damaged_share:
        return ""
    refused = ": too many, so no vectors are computed" if refusal(made.damaged_share) else ""
    return f"{reported}{made.damaged_share:.0%} of the {FRAMES} pictures{refused}"


def _range(frame_indices: np.ndarray) -> str:
    """How the positions run: first, last, step, repeats."""
    different = np.unique(frame_indices)
    if len(different) == 1:
        return f"{FRAMES} times {different[0]}"
    steps = np.diff(different)
    step = (
        f"step {steps.min()}"
        if steps.min() == steps.max()
        else f"steps {steps.min()} to {steps.max()}"
    )
    repeats = len(frame_indices) - len(different)
    repeated = f", {repeats} of {FRAMES} repeat the one before" if repeats else ""
    return f"{different[0]:,} to {different[-1]:,}, {step}{repeated}"


def _write_arrays(made: Sampled, path: Path) -> None:
    with whole_file(path) as file:
        np.savez(
            file,
            frames=made.frames.pixels,
            frame_indices=made.frames.indices,
            pts_seconds=made.frames.pts_seconds,
        )


def _write_sheet(made: Sampled, title: str, path: Path) -> None:
    picture = drawn(made, title)
    with whole_file(path) as file:
        picture.save(file, "png")
