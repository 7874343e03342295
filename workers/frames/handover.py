"""Frames of a video on their way through the frame store: written by whoever samples, read by
whoever embeds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine as Database

from db import session
from db.errors import PackError, UsageError, VideoError
from db.frames import packs
from db.frames.packs import PackRow
from workers.backbones.registry import PREPROCESSING
from workers.frames import pack
from workers.frames.pack import Pack
from workers.frames.store import STAGE, FrameStore, digest
from workers.sampling import drawing
from workers.sampling.frames import Frames


def write(
    database: Database,
    store: FrameStore,
    video_id: int,
    made: Pack,
    *,
    kept: bool,
) -> int:
    """Write one pack, its row before its object; returns its bytes. Once the video is gone nothing
    is written. Raises `UnavailableError`, `VideoError` (stage store).
    """
    data = pack.encode(made)
    row = PackRow(
        video_id,
        made.policy,
        digest(data),
        len(data),
        PREPROCESSING,
        made.frames.version,
        kept,
    )
    with session.transaction(database) as connection:
        if not packs.record(connection, row):
            return 0
    store.put(row.digest, data)
    with session.transaction(database) as connection:
        packs.mark_written(connection, row)
    return len(data)


def packed(frames: Frames, policy: str, size_bytes: int, *, wants_strip: bool) -> Pack:
    """The pack of what was sampled."""
    strip = drawing.strip(frames.pixels) if wants_strip else None
    return Pack(frames, policy, size_bytes, strip)


@dataclass(frozen=True)
class Packs:
    """What was written of one version of a video, by policy: a `FrameSource`."""

    read: Mapping[str, Pack]
    etag: str | None
    seconds: float = 0.0
    bytes_read: int = 0

    @property
    def size_bytes(self) -> int:
        """Of the video's file."""
        return next(iter(self.read.values())).size_bytes

    @property
    def strip(self) -> bytes | None:
        """The picture that was drawn of it, if one was wanted."""
        return next(iter(self.read.values())).strip

    def frames(self, policy: str, *, stop: threading.Event | None = None) -> Frames:  # noqa: ARG002
        """As they were sampled. Raises `UsageError` for a policy that was not read."""
        if policy not in self.read:
            raise UsageError(f"no frames were read by the policy {policy!r}")
        return self.read[policy].frames


def find(database: Database, video_id: int) -> dict[str, PackRow]:
    """The packs of one version of a video that are written, by policy; empty: there are none.

    Raises `UnavailableError`.
    """
    with session.transaction(database) as connection:
        rows = [row for row in packs.of_video(connection, video_id) if row.written]
    return {row.policy: row for row in rows if row.etag == rows[0].etag}


def read(
    store: FrameStore, rows: Mapping[str, PackRow], *, new_frames: Callable[[], np.ndarray]
) -> Packs:
    """Read packs. Raises `PackError`, `VideoError` (stage store)."""
    started = time.monotonic()
    found = {}
    for policy, row in rows.items():
        found[policy] = one = pack.decode(store.get(row.digest), new_frames=new_frames)
        if (one.policy, one.frames.version) != (policy, row.etag):
            raise PackError(
                "pack_foreign",
                f"object {row.digest[:12]} is of policy {one.policy!r} and version "
                f"{one.frames.version!r}, not {policy!r} and {row.etag!r}",
            )
    return Packs(
        found,
        next(iter(rows.values())).etag,
        time.monotonic() - started,
        sum(row.size_bytes for row in rows.values()),
    )


def lost(database: Database, video_id: int, policies: list[str], error: PackError) -> VideoError:
    """What to do about packs that are of no use: forget them, so that the video is sampled again.

    Raises `UnavailableError`.
    """
    with session.transaction(database) as connection:
        packs.drop(connection, video_id, policies)
    return VideoError("frames_lost", f"{error.code}: {error}", stage=STAGE)
