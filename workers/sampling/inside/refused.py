"""What a file is that no allowed container recognises, in words, from its first bytes."""

from __future__ import annotations

import re

#: Bytes that are looked at.
HEAD_BYTES = 512

_ELSEWHERE = "give the address of the video file itself"
_PICTURE = "a picture, and no video"
_ARCHIVE = "unpack it and give the videos in it"
_SUBTITLES = "subtitles, and no video"

#: Texts, by what stands first or (an expression) near the beginning: what they are and what to do.
_TEXTS = (
    (r"#EXTM3U", f"an HLS or M3U playlist; {_ELSEWHERE}"),
    (r"ffconcat version", f"a list of files for FFmpeg; {_ELSEWHERE}"),
    (r"\[(playlist|Reference)\]", f"a playlist; {_ELSEWHERE}"),
    (r"(?i)<asx", f"a Windows Media playlist; {_ELSEWHERE}"),
    (r"v=0\s+o=", f"a session description (SDP); {_ELSEWHERE}"),
    (r"(?s)(<\?xml.*?)?<MPD[\s>]", f"a DASH manifest; {_ELSEWHERE}"),
    (r"(?s)(<\?xml.*?)?<SmoothStreamingMedia", f"a Smooth Streaming manifest; {_ELSEWHERE}"),
    (r"(?is)(<\?xml.*?)?<smil", f"a SMIL playlist; {_ELSEWHERE}"),
    (
        r"(?i)(https?|rtsp|rtmp|mms|file|concat|subfile|data|crypto)[:+,]\S",
        f"an address; {_ELSEWHERE}",
    ),
    (r"(?is)(<\?xml.*?)?<svg", _PICTURE),
    (
        r"(?is)(<\?xml.*?)?(<!--.*?)?<(!doctype html|html|head)",
        "a web page: does the address need a login, or has it moved?",
    ),
    (r"(?s)<\?xml", "an XML document: many servers send their errors so"),
    (r"\s*[{\[]\s*[\"{\[]", "a JSON document: many servers send their errors so"),
    (r"WEBVTT", _SUBTITLES),
    (r"\d+\s+\d\d:\d\d:\d\d[,.]\d+ -->", _SUBTITLES),
    (r"\[Script Info\]", _SUBTITLES),
)
#: Other files, by an expression for their first bytes.
_BINARIES = (
    (rb"\xff\xd8\xff", _PICTURE),
    (rb"\x89PNG", _PICTURE),
    (
        rb"(?s)RIFF....WEBP",
        "a WebP picture; animated ones are not decoded by this FFmpeg: convert it to mp4 or gif",
    ),
    (
        rb"BM(?s:....)\x00{4}|II\*\x00|MM\x00\*|8BPS|\x00\x00\x01\x00\x01"
        rb"|\xff\x0a|\x00\x00\x00\x0cJXL ",
        _PICTURE,
    ),
    (
        rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd",
        f"an archive; {_ARCHIVE}",
    ),
    (rb"%PDF", "a PDF document"),
    (
        rb"[FCZ]WS[\x01-\x40]",
        "a Flash program (swf); it draws its pictures by running, so there is no film in it",
    ),
    (rb"ID3|fLaC|(?s:RIFF....WAVE)|FORM(?s:....)AIF|\xff[\xfb\xf3\xf2]", "sound without pictures"),
    (rb"DVDVIDEO-", "the index of a DVD (ifo); give its VOB files"),
    (rb"BIKi|KB2|SMK[24]", "a video of a game (Bink, Smacker); convert it to mp4"),
)


def description(head: bytes) -> str:
    """What a file that begins so is, as the rest of a sentence; empty if that is not known."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().decode("utf-8", "replace")
    for pattern, what in _TEXTS:
        if re.match(pattern, text):
            return what
    return next((what for bytes_pattern, what in _BINARIES if re.match(bytes_pattern, head)), "")


def is_text(head: bytes) -> bool:
    """Whether a file that begins so is text in UTF-8: no character is cut but the last, and none is
    one that no text holds.
    """
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return bool(text) and all(letter >= " " or letter in "\t\n\r\f" for letter in text)
