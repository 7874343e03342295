"""Which containers and codecs are let in. Why these and no others: docs/sampling.md, "Formats".

Every name is FFmpeg's. What is not listed is refused before any of it is parsed.
"""

from __future__ import annotations

from typing import NamedTuple


class Container(NamedTuple):
    """`demuxers`: FFmpeg's names for it; `known_as`: what people call it."""

    demuxers: str
    known_as: str


CONTAINERS = (
    Container("mov,mp4,m4a,3gp,3g2,mj2", "mp4, mov, 3gp"),
    Container("matroska,webm", "mkv, webm"),
    Container("mpegts", "MPEG-TS"),
    Container("avi", "avi"),
    Container("mpeg", "MPEG-PS (mpg, vob)"),
    Container("asf", "asf, wmv"),
    Container("flv", "flv"),
    Container("ogg", "ogg"),
    Container("mxf", "mxf"),
    Container("gxf", "gxf"),
    Container("rm", "RealMedia"),
    Container("wtv", "wtv"),
    Container("dv", "dv"),
    Container("gif", "animated gif"),
    Container("apng", "animated png"),
    Container("nut", "nut"),
    Container("ivf", "ivf"),
    Container("yuv4mpegpipe", "y4m"),
    Container(
        "mpegvideo,m4v,h264,hevc,vvc,obu", "raw streams of MPEG-1, 2 and 4, H.264, HEVC, VVC, AV1"
    ),
)
FORMATS = ",".join(container.demuxers for container in CONTAINERS)
KNOWN_FORMATS = ", ".join(container.known_as for container in CONTAINERS)

#: Single pictures, which are let in only where somebody searches by one; and codecs that nothing
#: else has.
STILL_FORMATS = "jpeg_pipe,png_pipe,webp_pipe,gif,apng"
STILL_CODECS = ("mjpeg", "png", "webp", "gif", "apng")
KNOWN_STILLS = "JPEG, PNG, WebP, GIF"

#: Formats that hold one picture more often than many: one picture is no video.
PICTURE_FORMATS = ("gif", "apng")
#: Formats that state a length a few pictures off: the delay of reordering, the last picture's time.
#: Short ones are counted.
LOOSE_FORMATS = ("mpeg", "asf", "flv", "ogg", "rm", "wtv", "nut")
#: Formats that state neither length nor rate, or only guess at them: FFmpeg divides the size by a
#: bit rate.
UNTIMED_FORMATS = ("gif", "apng", "dv", "mpegvideo", "m4v", "h264", "hevc", "vvc", "obu")

#: Films and broadcasts, by age.
_DISTRIBUTED = (
    *(
        "h264",
        "hevc",
        "vvc",
        "av1",
        "vp8",
        "vp9",
        "apv",
        "mpeg4",
        "mpeg2video",
        "mpeg1video",
        "vc1",
    ),
    *(
        "wmv1",
        "wmv2",
        "wmv3",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4v3",
        "h263",
        "h263i",
        "h263p",
        "h261",
    ),
    *(
        "flv1",
        "vp3",
        "theora",
        "vp4",
        "vp5",
        "vp6",
        "vp6f",
        "vp6a",
        "vp7",
        "rv10",
        "rv20",
        "rv30",
        "rv40",
    ),
    *(
        "svq1",
        "svq3",
        "cinepak",
        "indeo2",
        "indeo3",
        "indeo4",
        "indeo5",
        "msvideo1",
        "msrle",
        "rpza",
        "smc",
        "dirac",
    ),
)
#: Recordings of a screen.
_SCREENS = (
    "flashsv",
    "flashsv2",
    "mss1",
    "mss2",
    "cscd",
    "tscc",
    "tscc2",
    "zmbv",
    "fraps",
    "qtrle",
    "gif",
    "apng",
)
#: Cameras, editing and archives: every packet is one whole picture that refers to no other.
INTRA_CODECS = (
    *(
        "mjpeg",
        "prores",
        "dnxhd",
        "dvvideo",
        "jpeg2000",
        "huffyuv",
        "ffvhuff",
        "utvideo",
        "magicyuv",
    ),
    *("rawvideo", "v210", "v308", "v408", "v410", "r210", "r10k", "png", "hap"),
)
#: Others of these that may refer to the picture before, or hide how.
_EDITED = ("ffv1", "cfhd", "lagarith", "mjpegb", "amv", "snow")

CODECS = (*_DISTRIBUTED, *_SCREENS, *INTRA_CODECS, *_EDITED)
#: The names of the decoders: some differ from their codec's.
DECODERS = (*CODECS, "libdav1d", "flv", "msmpeg4", "camstudio", "camtasia")
