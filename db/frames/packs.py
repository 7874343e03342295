"""The table `packs`: one row per video and sampling policy whose frames are in the store.

A row is written before its object, so that no object is unknown; a row that goes, whatever removes
it, leaves a tombstone (a trigger), by which the object is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True)
class PackRow:
    """`digest` names the object, `etag` the version of the video, `recipe` how its pixels were
    made. `kept`: it stays when nothing is owed. `written`: the object is in the store.
    """

    video_id: int
    policy: str
    digest: str
    size_bytes: int
    recipe: str
    etag: str | None
    kept: bool
    written: bool


def record(
    connection: Connection,
    *,
    video_id: int,
    policy: str,
    digest: str,
    size_bytes: int,
    recipe: str,
    etag: str | None,
    kept: bool,
) -> bool:
    """To be committed before the object is written: this video's frames will be in this object.
    Another pack of this video and policy is replaced. False: the video is gone, write nothing.

    Waits where a sweeper deletes an object of this name right now.
    """
    raise NotImplementedError


def mark_written(connection: Connection, *, video_id: int, policy: str, digest: str) -> bool:
    """The object is in the store. False: the row is gone or names another object by now; a
    tombstone sees to ours.
    """
    raise NotImplementedError


def of_video(connection: Connection, video_id: int) -> list[PackRow]:
    """What is recorded of a video, by policy."""
    raise NotImplementedError


def drop(connection: Connection, video_id: int, policies: list[str]) -> int:
    """Forget a video's packs of these policies, kept ones too; the sweeper deletes their objects.
    Returns how many.
    """
    raise NotImplementedError
