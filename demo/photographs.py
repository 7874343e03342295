"""The photographs that clips pan over, what a tagger may say of each to be right, and whose they
are.

The files lie in scikit-image's own wheel, in skimage/data; nothing is fetched and nothing of them
is copied into this repository. This table was written before any result was looked at. A tag counts
as right if somebody who looks at the picture would accept that word of the 1,000 that the tagger
has; pictures for which it has no such word (coins, gravel, the moon) are not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from db.errors import UsageError


@dataclass(frozen=True)
class Photograph:
    """`file` in skimage/data; `accepted`: the tags that are right; `license` as the package states
    it in skimage/data/_fetchers.py.
    """

    file: str
    title: str
    folder: str
    accepted: tuple[str, ...]
    license: str

    @property
    def path(self) -> Path:
        """Where the file lies. Raises `UsageError` where scikit-image is not installed."""
        found = find_spec("skimage")
        if found is None or found.origin is None:
            raise UsageError(
                "the demonstration's photographs come with scikit-image; run make demo"
            )
        return Path(found.origin).parent / "data" / self.file


PHOTOGRAPHS = (
    Photograph(
        "coffee.png",
        "coffee",
        "45.0_various",
        ("espresso", "cup", "coffee mug"),
        "CC0, by the photographer Rachel Michetti",
    ),
    Photograph(
        "chelsea.png",
        "cat",
        "46.0_animals",
        ("Egyptian cat", "tabby", "tiger cat"),
        "CC0, by the photographer Stefan van der Walt",
    ),
    Photograph(
        "camera.png",
        "cameraman",
        "45.0_various",
        ("tripod", "reflex camera"),
        "CC0, by the photographer Lav Varshney",
    ),
    Photograph(
        "rocket.jpg",
        "rocket",
        "45.0_various",
        ("missile", "projectile", "space shuttle"),
        "public domain, by SpaceX",
    ),
    Photograph(
        "astronaut.png",
        "astronaut",
        "45.0_various",
        ("space shuttle", "flagpole", "crash helmet"),
        "public domain, by NASA",
    ),
    Photograph(
        "motorcycle_left.png",
        "motorcycle",
        "45.0_various",
        ("moped", "motor scooter", "disk brake"),
        "of the Middlebury 2014 stereo benchmark (Scharstein et al.); none stated beside it",
    ),
    Photograph(
        "page.png",
        "page",
        "45.0_various",
        ("web site", "menu"),
        "BSD-3-Clause, as all of scikit-image",
    ),
)
