"""Runs damaged videos through a `SamplerPool` and holds it to its promises, whatever they
contain.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from db.errors import VideoError
from tests import media
from tests.mutator import Mutant, mutated
from workers.sampling.frames import Frames
from workers.sampling.plan import SHAPE
from workers.sampling.pool import SamplerPool
from workers.sources.file import open_file

_B_FRAMES = {"preset": "veryfast", "bf": "2", "g": "12"}
#: Few pictures, of those that take much room.
_SOME = {"seconds": 0.2}
#: The whole clips, by name; every file is small, so that damage hits what matters.
CLIPS: dict[str, dict[str, object]] = {
    "last.mp4": {"options": _B_FRAMES, "audio": True},
    "first.mp4": {
        "options": _B_FRAMES,
        "audio": True,
        "container_options": {"movflags": "faststart"},
    },
    "fragmented.mp4": {
        "options": {"g": "10"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "hevc.mp4": {"codec": "libx265"},
    "av1.mp4": {"codec": "libsvtav1"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "h264.mkv": {"audio": True},
    "h264.ts": {},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "h264.flv": {"audio": True},
    "flv1.flv": {"codec": "flv"},
    "screen.flv": {"codec": "flashsv2", "pix_fmt": "bgr24"},
    "wmv2.asf": {"codec": "wmv2"},
    "msmpeg4.asf": {"codec": "msmpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"bf": "2"}},
    "mpeg2.vob": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "vp8.ogv": {"codec": "libvpx"},
    "mpeg2.mxf": {"codec": "mpeg2video"},
    "jpeg2000.mxf": {"codec": "jpeg2000"},
    "dnxhr.mxf": {
        "codec": "dnxhd",
        "pix_fmt": "yuv422p",
        "options": {"profile": "dnxhr_lb"},
        **_SOME,
        "width": 256,
        "height": 120,
    },
    "rv20.rm": {"codec": "rv20", "width": 176, "height": 144},
    "mpeg4.wtv": {"codec": "mpeg4"},
    "dv.gxf": {"codec": "dvvideo", **_SOME, "width": 720, "height": 576},
    "dv.dv": {"codec": "dvvideo", **_SOME, "width": 720, "height": 576},
    "gif.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "apng.apng": {"codec": "apng", "pix_fmt": "rgb24"},
    "mpeg4.nut": {"codec": "mpeg4", "options": {"bf": "2"}},
    "vp9.ivf": {"codec": "libvpx-vp9"},
    "raw.y4m": {"codec": "rawvideo", **_SOME},
    "mpeg2.m2v": {"codec": "mpeg2video"},
    "mpeg4.m4v": {"codec": "mpeg4", "container_format": "m4v"},
    "raw.h264": {},
    "raw.hevc": {"codec": "libx265"},
    "raw.obu": {"codec": "libsvtav1"},
    "h263.3gp": {"codec": "h263", "width": 176, "height": 144},
    "cinepak.avi": {"codec": "cinepak", "pix_fmt": "rgb24", "options": {"max_strips": "1"}},
    "msmpeg4v2.avi": {"codec": "msmpeg4v2"},
    "huffyuv.avi": {"codec": "huffyuv", "pix_fmt": "yuv422p", **_SOME},
    "utvideo.avi": {"codec": "utvideo", **_SOME},
    "ffv1.mkv": {"codec": "ffv1", **_SOME},
    "svq1.mov": {"codec": "svq1", "pix_fmt": "yuv410p"},
    "qtrle.mov": {"codec": "qtrle", "pix_fmt": "rgb24", **_SOME},
    "cineform.mov": {"codec": "cfhd", "pix_fmt": "yuv422p10le"},
}
GOOD, GOOD_SEED, GOOD_FRAMES = "last.mp4", 77, 25

FRAMES = "frames"
#: How a damaged video may end: with frames, or with a code of a sampler.
ENDINGS = (
    *(
        FRAMES,
        "empty_file",
        "not_media",
        "no_video",
        "truncated",
        "undecodable",
        "unsupported_codec",
        "over_limits",
    ),
    *("encrypted", "sampler_crashed", "sampler_timeout"),
)
#: FFmpeg may die over a file. That a sampler ends otherwise is a defect of ours.
_DEATH = re.compile(r"the sampler process died of SIG(SEGV|ABRT|FPE|BUS|ILL) over this video")

WALL_SECONDS, CPU_SECONDS = 20, 10
#: What the allocators of this process may keep; one set of frames is 14 MiB.
SLACK_BYTES = 64 << 20
#: A sampler that has given back what its videos took: libraries, and its pages of the frames.
IDLE_BYTES = 150 << 20


class Outcome(NamedTuple):
    """How one file ended; `message` is empty if with frames."""

    seed: int
    clip: str
    story: tuple[str, ...]
    ending: str
    message: str

    def __str__(self) -> str:
        how = (
            f"seed {self.seed}: {self.ending}, {self.clip} after {', '.join(self.story)}: "
            f"{self.message}"
        )
        return f"{how} (python -m tests.mutator {self.seed} OUT_FILE makes it again)"


def make_corpus(folder: Path) -> dict[str, bytes]:
    """The whole clips: the same bytes in every run."""
    corpus = {}
    for name, how in CLIPS.items():
        options = {
            "fflags": "+bitexact",
            **how.get("container_options", {}),
        }  # otherwise mkv has a random id
        arguments = {
            "seconds": 1,
            "width": 96,
            "height": 64,
            "seed": GOOD_SEED,
            **how,
            "container_options": options,
        }
        corpus[name] = media.make_clip(folder / name, **arguments).read_bytes()
    return corpus


def mutant(corpus: dict[str, bytes], seed: int) -> tuple[str, Mutant]:
    """The damaged file of that seed and the clip it was made of. Seeds in a row go through all
    clips and all donors.
    """
    names = list(corpus)
    name, donor = names[seed % len(names)], names[(seed // len(names)) % len(names)]
    return name, mutated(corpus[name], corpus[donor], seed)


#: mallopt(3) of glibc.
_M_MMAP_THRESHOLD = -3


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    descriptors: int
    children: int
    memory_bytes: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        # what is free already is no leak, however much of it glibc keeps for this process
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        me = psutil.Process()
        return cls(me.num_fds(), len(me.children()), me.memory_info().rss)


def _give_large_blocks_back() -> None:
    """Frames return to the system when they are freed. Once a process has freed blocks of that
    size, glibc takes them from the heap of each thread, whose end `malloc_trim` leaves alone: 110
    MB that nobody holds.
    """
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(_M_MMAP_THRESHOLD, 1 << 20)


def fuzz(
    folder: Path, seeds: Iterable[int], told: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Sample the mutants of `seeds` with two processes from two threads; `told` is called with each
    as it ends.

    `AssertionError` unless the pool still works after them and leaves nothing behind. See `defects`
    for the rest.
    """
    corpus = make_corpus(folder)
    _give_large_blocks_back()
    before = Held.now()
    pool = SamplerPool(2, wall_seconds=WALL_SECONDS, cpu_seconds=CPU_SECONDS)

    def run(seed: int) -> Outcome:
        name, made = mutant(corpus, seed)
        ending, message = _ending(pool, folder / f"mutant-{seed}", made.data)
        outcome = Outcome(seed, name, made.story, ending, message)
        told(outcome)
        return outcome

    try:
        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(run, seeds))
            _assert_works(list(threads.map(lambda _: _sampled(pool, folder / GOOD), range(8))))
            kept_bytes = [psutil.Process(pid).memory_info().rss for pid in pool.pids()]
            assert max(kept_bytes) < IDLE_BYTES, f"samplers keep {kept_bytes} bytes"
    finally:
        pool.close()
    after = Held.now()
    assert (after.descriptors, after.children) == (before.descriptors, before.children), (
        f"{before} became {after}"
    )
    assert after.memory_bytes < before.memory_bytes + SLACK_BYTES, f"{before} became {after}"
    return outcomes


def _ending(pool: SamplerPool, path: Path, data: bytes) -> tuple[str, str]:
    path.write_bytes(data)
    try:
        sample = _sampled(pool, path)
        return (FRAMES, "") if _is_sane(sample) else ("unusable frames", repr(sample))
    except VideoError as error:
        return (error.code if error.stage == "sample" else f"{error.code} ({error.stage})"), str(
            error
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, its seed is to be known
        return type(error).__name__, str(error)
    finally:
        path.unlink()


def _sampled(pool: SamplerPool, path: Path) -> Frames:
    with open_file(path.as_uri(), None) as source:
        return pool.sample(source, "notebook")


def _is_sane(sample: Frames) -> bool:
    indices, times = sample.indices, sample.pts_seconds
    return bool(
        (sample.pixels.shape, sample.pixels.dtype) == (SHAPE, np.uint8)
        and indices.shape == times.shape == SHAPE[:1]
        and indices[0] >= 0
        and (np.diff(indices) >= 0).all()
        and np.isfinite(times).all()
    )


def _assert_works(samples: list[Frames]) -> None:
    wanted = [min(slot, GOOD_FRAMES - 1) for slot in range(SHAPE[0])]
    for sample in samples:
        assert sample.indices.tolist() == wanted
        assert [media.read_frame_number(frame) for frame in sample.pixels] == wanted
        assert media.read_seed(sample.pixels[0]) == GOOD_SEED


def defects(outcomes: Iterable[Outcome]) -> list[str]:
    """Those that are the sampler's fault and not FFmpeg's: a Python exception, nonsense, an unknown
    code, an odd death.
    """
    return [
        str(outcome)
        for outcome in outcomes
        if outcome.ending not in ENDINGS
        or (outcome.ending == "sampler_crashed" and not _DEATH.match(outcome.message))
    ]


def lost_processes(outcomes: Iterable[Outcome]) -> list[str]:
    """Those that killed a sampler or had to be stopped."""
    return [
        str(outcome)
        for outcome in outcomes
        if outcome.ending in ("sampler_crashed", "sampler_timeout")
    ]


def summary(outcomes: list[Outcome]) -> str:
    """A table: how often each mutation ended how."""
    counts = Counter(
        (name, outcome.ending)
        for outcome in outcomes
        for name in ("all", *sorted(set(outcome.story)))
    )
    rows, seen = (
        sorted({name for name, _ in counts}),
        [ending for ending in ENDINGS if counts["all", ending]],
    )
    lines = [" " * 20 + "".join(f"{ending:>18}" for ending in seen)]
    lines += [f"{row:20}" + "".join(f"{counts[row, ending]:18}" for ending in seen) for row in rows]
    return "\n".join(lines)
