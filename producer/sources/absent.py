"""Local files that a list names and that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from producer.sources.manifest import VideoRow
from producer.wording import plural
from workers.sources.schemes import Naming, key_of, naming_of

#: A list in another folder than its files is wrong from the first row on; on a network disk every
#: look takes its time.
LOOKED_AT = 1_000


@dataclass
class Absent:
    """`count` of the `looked_at` first local files of lists are not there, the first is
    `example`.
    """

    looked_at: int = 0
    count: int = 0
    example: str = ""

    def look(self, row: VideoRow) -> None:
        """Files of a folder were seen when it was read, and are not looked for again."""
        is_seen = row.etag is not None
        if is_seen or self.looked_at >= LOOKED_AT or naming_of(row.uri) is not Naming.PATH:
            return
        self.looked_at += 1
        path = key_of(row.uri)
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            self.count += 1
            self.example = self.example or path
        except OSError:  # what this user may not see, a worker may
            pass

    @property
    def warning(self) -> str | None:
        """None: all of them are there."""
        if not self.count:
            return None
        first = "the first " if self.looked_at == LOOKED_AT else ""
        return (
            f"{self.count:,} of {first}{plural(self.looked_at, 'local file')} in the list "
            f"{'is' if self.count == 1 else 'are'} not on this machine, for example "
            f"{self.example}. That is well if the workers have them there; else correct the paths: "
            "in a list they begin in its folder, on standard input in the one you are in"
        )
