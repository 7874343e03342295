"""Clips of every codec and container that is read, against which sampling is held: those of
`make test`, and the rest of them for `make soak`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import media

SEED = 4711


@dataclass(frozen=True)
class Clip:
    """A clip to make: 25 frames/s; of 8 s the notebook takes every second frame, of 12 s every
    third.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    mode: str = "sparse"
    seconds: int = 8

    def make(self, folder: Path) -> Path:
        arguments = {
            "seconds": self.seconds,
            "fps": 25,
            "width": 80,
            "height": 64,
            "seed": SEED,
            **self.arguments,
        }
        return media.make_clip(folder / self.name, **arguments)


def h264(**options: str) -> dict[str, Any]:
    return {"options": {"preset": "superfast", "refs": "2", "g": "40", "bf": "3"} | options}


def hevc(parameters: str) -> dict[str, Any]:
    return {
        "codec": "libx265",
        "options": {"preset": "superfast", "x265-params": f"log-level=none:{parameters}"},
    }


#: One of each kind of stream and container.
CLIPS = [
    Clip("h264_no_b_frames.mp4"),
    Clip("h264_b_frames.mp4", h264(**{"x264-params": "b-adapt=0:b-pyramid=none"})),
    Clip("h264_pyramid.mkv", h264(bf="7", **{"x264-params": "b-pyramid=normal:ref=4"})),
    Clip("h264_open_gop.mp4", h264(**{"x264-params": "open-gop=1"})),
    Clip("h264_open_gop.ts", h264(**{"x264-params": "open-gop=1"})),
    Clip(
        "h264_gradual_refresh.mp4", h264(bf="0", **{"x264-params": "intra-refresh=1"}), seconds=12
    ),
    Clip("h264_fields.mp4", h264(**{"x264-params": "interlaced=1"}), mode="full"),
    Clip("h264_without_pts.avi", h264(), mode="full"),
    Clip("h264_open_gop.avi", h264(**{"x264-params": "open-gop=1"}), mode="full"),
    Clip("h264_all_intra.mp4", h264(g="1", bf="0")),
    Clip("h264_one_key_frame.mp4", h264(g="1000", keyint_min="1000", sc_threshold="0")),
    Clip(
        "h264_fragmented.mp4",
        h264() | {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    Clip("h264_half_fragmented.mp4", h264() | {"container_options": {"movflags": "frag_keyframe"}}),
    Clip("h264_live.mkv", h264() | {"container_options": {"live": "1"}}),
    Clip(
        "h264_sound.mp4", h264() | {"audio": True, "container_options": {"movflags": "faststart"}}
    ),
    Clip("hevc_open_gop.mkv", hevc("keyint=31:open-gop=1:bframes=4")),
    Clip(
        "hevc_open_gop_short.mp4",
        hevc("keyint=17:min-keyint=17:scenecut=0:open-gop=1:bframes=8:b-adapt=0"),
    ),
    Clip("hevc_closed_gop.ts", hevc("keyint=31:open-gop=0:bframes=4")),
    Clip(
        "hevc_temporal_layers.mp4",
        hevc("keyint=32:temporal-layers=3:bframes=7:b-adapt=0"),
        seconds=12,
    ),
    Clip(
        "vp9.webm",
        {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "auto-alt-ref": "1", "g": "40"}},
    ),
    Clip("vp9_live.webm", {"codec": "libvpx-vp9", "container_options": {"live": "1"}}),
    Clip("vp8.webm", {"codec": "libvpx", "options": {"g": "40"}}, mode="full"),
    Clip("av1.mp4", {"codec": "libsvtav1", "options": {"g": "45", "crf": "10"}}),
    Clip("av1.mkv", {"codec": "libsvtav1", "options": {"crf": "10"}}),
    Clip("mpeg4.mp4", {"codec": "mpeg4", "options": {"bf": "2"}}, mode="full"),
    Clip("mpeg2.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}, mode="full"),
    Clip("mjpeg.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    Clip("prores_10_bit.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    *(
        Clip(f"{codec}.{ending}", how, mode="full")
        for codec, ending, how in [
            ("wmv2", "wmv", {"codec": "wmv2"}),
            ("msmpeg4v3", "avi", {"codec": "msmpeg4"}),
            ("screen2", "flv", {"codec": "flashsv2", "pix_fmt": "bgr24"}),
            ("mpeg1", "mpg", {"codec": "mpeg1video", "options": {"bf": "2"}}),
            ("mpeg2", "vob", {"codec": "mpeg2video", "options": {"bf": "2"}}),
            ("raw", "h264", h264()),
            ("h264", "mxf", h264()),
            ("vp8", "ogv", {"codec": "libvpx"}),
            ("mpeg4", "wtv", {"codec": "mpeg4", "options": {"bf": "2"}}),
            ("rv20", "rm", {"codec": "rv20", "width": 176, "height": 144}),
            ("gif", "gif", {"codec": "gif", "pix_fmt": "rgb8"}),
            ("qtrle", "mov", {"codec": "qtrle", "pix_fmt": "rgb24"}),
        ]
    ),
    *(
        Clip(f"{codec}.{ending}", how)
        for codec, ending, how in [
            ("h264", "flv", h264()),
            ("raw", "obu", {"codec": "libsvtav1", "options": {"crf": "10"}}),
            ("utvideo", "avi", {"codec": "utvideo"}),
            ("vp9", "ivf", {"codec": "libvpx-vp9"}),
        ]
    ),
    Clip("odd_size.mp4", h264() | {"pix_fmt": "yuv444p", "width": 81, "height": 65}),
    Clip("turned_90.mp4", h264() | {"turn": 90}),
    Clip("turned_180.mp4", h264() | {"turn": 180}),
    Clip("turned_270.mp4", h264() | {"turn": 270, "width": 82}),
]

#: Other codecs and containers that take the same ways through the sampler.
MORE_CLIPS = [
    *(
        Clip(f"{codec}.{ending}", how, mode="full")
        for codec, ending, how in [
            ("wmv1", "asf", {"codec": "wmv1"}),
            ("msmpeg4v2", "avi", {"codec": "msmpeg4v2"}),
            ("h264", "asf", h264()),
            ("flv1", "flv", {"codec": "flv"}),
            ("screen", "flv", {"codec": "flashsv", "pix_fmt": "bgr24"}),
            ("h264", "mpg", h264()),
            ("mpeg1", "ts", {"codec": "mpeg1video", "options": {"bf": "2"}}),
            (
                "mpeg1",
                "m1v",
                {"codec": "mpeg1video", "options": {"bf": "2"}, "container_format": "mpeg1video"},
            ),
            (
                "mpeg2",
                "m2v",
                {"codec": "mpeg2video", "options": {"bf": "2"}, "container_format": "mpeg2video"},
            ),
            ("mpeg4", "m4v", {"codec": "mpeg4", "options": {"bf": "2"}, "container_format": "m4v"}),
            ("raw", "hevc", hevc("keyint=31:bframes=4")),
            ("mpeg2", "mxf", {"codec": "mpeg2video", "options": {"bf": "2"}}),
            ("vp8", "ivf", {"codec": "libvpx"}),
            ("mpeg4", "nut", {"codec": "mpeg4", "options": {"bf": "2"}}),
            ("rv10", "rm", {"codec": "rv10", "width": 176, "height": 144}),
            ("apng", "apng", {"codec": "apng", "pix_fmt": "rgb24"}),
            ("h263p", "avi", {"codec": "h263p"}),
            (
                "cinepak",
                "avi",
                # its encoder takes a tenth of a second for a picture of 160 x 120
                {"codec": "cinepak", "pix_fmt": "rgb24", "width": 32, "height": 32}
                | {"options": {"max_strips": "1"}},
            ),
            ("msvideo1", "avi", {"codec": "msvideo1", "pix_fmt": "rgb555le"}),
            ("zmbv", "avi", {"codec": "zmbv", "pix_fmt": "bgr0", "options": {"me_range": "1"}}),
            ("ffv1", "mkv", {"codec": "ffv1"}),
            ("svq1", "mov", {"codec": "svq1", "pix_fmt": "yuv410p"}),
            ("rpza", "mov", {"codec": "rpza", "pix_fmt": "rgb555le"}),
            ("cineform", "mov", {"codec": "cfhd", "pix_fmt": "yuv422p10le"}),
        ]
    ),
    *(
        Clip(f"{codec}.{ending}", how)
        for codec, ending, how in [
            ("prores", "mxf", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
            ("jpeg2000", "mxf", {"codec": "jpeg2000"}),
            (
                "dnxhr",
                "mxf",
                {
                    "codec": "dnxhd",
                    "pix_fmt": "yuv422p",
                    "options": {"profile": "dnxhr_lb"},
                    "width": 256,
                    "height": 120,
                },
            ),
            (
                "dnxhr",
                "mov",
                {
                    "codec": "dnxhd",
                    "pix_fmt": "yuv422p",
                    "options": {"profile": "dnxhr_lb"},
                    "width": 256,
                    "height": 120,
                },
            ),
            ("huffyuv", "avi", {"codec": "huffyuv", "pix_fmt": "yuv422p"}),
            ("ffvhuff", "avi", {"codec": "ffvhuff"}),
            ("magicyuv", "avi", {"codec": "magicyuv"}),
            ("rawvideo", "avi", {"codec": "rawvideo"}),
            ("rawvideo", "y4m", {"codec": "rawvideo"}),
            ("png", "mov", {"codec": "png", "pix_fmt": "rgb24"}),
            ("v210", "mov", {"codec": "v210", "pix_fmt": "yuv422p10le"}),
            ("mjpeg", "nut", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
            ("hevc", "flv", hevc("keyint=31:bframes=4")),
        ]
    ),
]
