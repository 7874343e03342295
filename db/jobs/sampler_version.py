"""Which sampler looked at a video, and which failures of older ones are worth another try."""

from __future__ import annotations

#: What samplers do, in one number, stored with every video and every failed attempt. Raise it when
#: a file may end otherwise than before (another code, frames instead of a code), and say in `MENDS`
#: which failures that mends. What changes the pixels of a good file is no new version but another
#: `preprocessing`: another embedding space.
VERSION = 4
#: Rows without a number were made by this one, which looked for neither encryption nor damage.
UNNUMBERED = 1

_OLD_CONTAINERS = "flv, asf and wmv, MPEG-PS, ogg, mxf, gif and others are read now"

#: By the version that mends them: failures that may end otherwise, by their code, and why.
MENDS: dict[int, dict[str, str]] = {
    2: {
        "not_media": _OLD_CONTAINERS,
        "unsupported_codec": "H.263, msmpeg4, MPEG-1, VVC and others are decoded now",
        "undecodable": "what is encrypted is called so, and more is decoded",
        "truncated": "one-frame files and odd lengths are whole, and what is encrypted is called "
        "so",
        "no_video": _OLD_CONTAINERS,
        "sampler_crashed": "what a file says of itself that is unknown here ends no sampler any "
        "more",
        "poison": "what a file says of itself that is unknown here ends no sampler any more",
    },
    # holes in a file, and half a file with other bytes behind it, were not seen
    3: {},  # in mkv, webm, avi, flv, mxf and nut
    4: {},  # in mpegts, MPEG-PS, asf and ogg
}


def mended() -> list[tuple[int, str]]:
    """Version and code of every failure that a later sampler mends."""
    return [(version, code) for version, codes in MENDS.items() for code in codes]
