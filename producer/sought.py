"""What `reelvec search` was given: a video of the catalogue, a file, or words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from db import search
from db.errors import UsageError
from db.masking import mask
from db.search import Stored
from producer.sources.naming import VIDEO_SUFFIXES
from producer.sources.uris import canonical
from workers.sources.s3_endpoint import endpoint
from workers.sources.schemes import Naming, naming_of

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class File:
    """A video that is not in the catalogue, as it was named."""

    name: str


@dataclass(frozen=True)
class Words:
    """What is to be seen in the videos."""

    text: str


Sought: TypeAlias = Stored | File | Words


def recognised(connection: Connection, text: str, say: Callable[[str], None]) -> Sought:
    """A number is a video's own before it is a user's id; then an address that is recorded, then a
    file; whatever is none of these is words.

    `say` hears of a number that is another video's id. Raises `UsageError` for what looks like a
    video that is not there: words are never guessed.
    """
    if (
        text.isascii()
        and text.isdigit()
        and (found := search.find_by_number(connection, int(text)))
    ):
        other = search.find_by_id(connection, text)
        if other is not None and other.video_id != found.video_id:
            say(
                f"{text} is taken as a video's number; it is also the id of {other.uri}, which is "
                f"found by its own number: {other.video_id}"
            )
        return found
    if found := search.find_by_id(connection, text):
        return found
    if text.isdigit():
        raise UsageError(
            f"there is no video {text}, and none has it as its id; the table videos has them: "
            "video_id, external_id"
        )
    uri, problem = _uri(text)
    if uri is not None and (found := search.find_by_uri(connection, uri)):
        return found
    if uri is not None and naming_of(uri) is not Naming.PATH:
        return File(text)
    if Path(text).is_file():
        return File(text)
    if _looks_like_a_file(text):
        raise UsageError(f"{mask(text)!r}: {problem or 'no such file, and no recorded video'}")
    return Words(text)


def _uri(text: str) -> tuple[str | None, str | None]:
    """The canonical uri, or why there is none."""
    try:
        return canonical(text, base=Path.cwd(), s3_endpoint=endpoint().host).uri, None
    except ValueError as error:
        return None, str(error)


def _looks_like_a_file(text: str) -> bool:
    is_one_word = not any(character.isspace() for character in text)
    return (
        text.startswith(("/", "./", "../", "~/"))
        or (is_one_word and "://" in text)
        or (is_one_word and PurePosixPath(text).suffix.lower() in VIDEO_SUFFIXES)
    )
