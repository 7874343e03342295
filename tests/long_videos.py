"""Long videos in little time: the packets of one clip, again and again, and what a perfect reader
would read of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av

MINUTE_SECONDS = 60.0
#: Pictures and sound packets both fit into this whole: 8 of 25 pictures a second, 15 of 1024
#: samples at 48 kHz.
UNIT_SECONDS = 0.32


def lengthen(
    clip: Path, path: Path, *, seconds: float, options: dict[str, str] | None = None
) -> Path:
    """Write the streams of `clip` to `path` over and over until they last `seconds`; nothing is
    decoded or encoded.

    `clip` lasts a multiple of `UNIT_SECONDS` and begins with a key picture. `options` go to the
    container that the ending of `path` names.
    """
    with av.open(str(clip)) as original, av.open(path, "w", options=options or {}) as copy:
        source: list[Any] = [*original.streams.video, *original.streams.audio]
        targets = {stream.index: copy.add_stream_from_template(stream) for stream in source}
        clip_seconds = float(source[0].duration * source[0].time_base)
        packets = []
        for packet in original.demux(source):
            base = packet.time_base
            # the encoder's silence before the first sound and after the last picture is not
            # repeated
            if packet.dts is not None and 0 <= float(packet.pts * base) < clip_seconds:
                packets.append((packet.dts * base, bytes(packet), packet))
        packets.sort(key=lambda each: each[0])
        for turn in range(math.ceil(seconds / clip_seconds)):
            for dts_seconds, data, packet in packets:
                if dts_seconds + turn * clip_seconds >= seconds:
                    break
                shift = round(turn * clip_seconds / packet.time_base)
                again = av.Packet(data)
                again.pts, again.dts, again.time_base = (
                    packet.pts + shift,
                    packet.dts + shift,
                    packet.time_base,
                )
                again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                again.stream = targets[packet.stream_index]
                copy.mux(again)
    return path


def needed_bytes(path: Path) -> int:
    """Bytes of the file up to its last picture of the first minute, and those after its last
    packet: an index at the end.
    """
    minute_end = file_end = 0
    with av.open(str(path)) as opened:
        for packet in opened.demux():
            if packet.pts is None or packet.pos is None:
                continue
            end = packet.pos + packet.size
            file_end = max(file_end, end)
            start_seconds = (opened.start_time or 0) / av.time_base
            if (
                packet.stream.type == "video"
                and float(packet.pts * packet.time_base) - start_seconds < MINUTE_SECONDS
            ):
                minute_end = max(minute_end, end)
    return minute_end + path.stat().st_size - file_end
