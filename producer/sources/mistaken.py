"""Addresses in the spelling of other systems: named for what they are, with what to write instead.
Pure.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ARN = re.compile(r"arn:aws[a-z-]*:s3:::(?=[^/:])")
_HADOOP = re.compile(r"s3[an]://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(
    r"www\.[a-z0-9.-]+(?:/|$)|(?:m\.)?(?:youtube\.com|youtu\.be)/", re.IGNORECASE
)
#: Sites whose addresses open a page with a player, and what their pages look like.
_PAGES = re.compile(
    r"(?:www\.|m\.|music\.)?(?:youtube(?:-nocookie)?\.com/(?:watch|shorts/|embed/|live/|v/|playlist)|youtu\.be/.|vimeo\.com/[0-9]"
    r"|dailymotion\.com/video|tiktok\.com/@|rutube\.ru/video/|vk\.com/video|bilibili\.com/video)",
    re.IGNORECASE,
)
_ADVICE = {
    "gs": "Google Cloud Storage speaks S3: set AWS_ENDPOINT_URL_S3=https://storage.googleapis.com "
    "with an HMAC key, and"
    " write s3://bucket/key",
    "arn": "of S3 only addresses such as arn:aws:s3:::bucket/key are read; write s3://bucket/key",
    "ftp": "copy the files to a folder, a bucket or a web server",
    "ftps": "copy the files to a folder, a bucket or a web server",
    "sftp": "copy the files to a folder, a bucket or a web server",
    "hdfs": "mount it as a folder, or copy the files to a bucket",
    "smb": "mount the share and write the path below the mount",
    "rtsp": "record the stream to a file first",
    "rtmp": "record the stream to a file first",
    "az": "Azure's storage does not speak S3: write https addresses, or mount it as a folder",
    "abfs": "Azure's storage does not speak S3: write https addresses, or mount it as a folder",
    "abfss": "Azure's storage does not speak S3: write https addresses, or mount it as a folder",
    "hf": "download the files first, with: hf download",
}


_OTHERS = ("arn", "s3a", "s3n")


def respelled(text: str) -> str:
    """`s3://bucket/key` for `arn:aws:s3:::bucket/key`, `s3a://` and `s3n://`, which mean that and
    nothing else.
    """
    return (
        _HADOOP.sub("s3://", _ARN.sub("s3://", text, count=1), count=1)
        if text[:3].lower() in _OTHERS
        else text
    )


def advice(scheme: str) -> str:
    """What to do about a scheme that is not read; empty where nothing is known."""
    return f"; {_ADVICE[scheme]}" if scheme in _ADVICE else ""


def refuse_path(text: str) -> None:
    """Raises `ValueError` for a text without a scheme that is no path of this system."""
    refuse_drive(text)
    if text.startswith("\\\\"):
        raise ValueError(
            f"'{text}' is a network share of Windows; mount it and write the path below the mount"
        )
    if "\\" in text and "/" not in text:
        raise ValueError(
            f"'{text}' is written with the \\ of Windows; write / between folders (./ before a "
            "name that holds \\)"
        )
    if _WITHOUT_SCHEME.match(text):
        if _PAGES.match(text):
            raise ValueError(_page(text))
        raise ValueError(f"'{text}' is a web address without its beginning; write https://{text}")
    if text.lower().startswith("arn:"):
        raise ValueError(f"'{text}' is an ARN; {_ADVICE['arn']}")


def refuse_drive(text: str) -> None:
    """Raises `ValueError` for `C:\\videos\\a.mp4`."""
    if _DRIVE.match(text):
        raise ValueError(
            f"'{text}' is a path of Windows; write the path under which the workers see the file, "
            "such as /mnt/videos/a.mp4"
        )


def refuse_page(address: str) -> None:
    """Raises `ValueError` for the address of a page with a player in it."""
    parts = urlsplit(address)
    if _PAGES.match(f"{parts.hostname or ''}{parts.path}"):
        raise ValueError(_page(address))


def _page(address: str) -> str:
    host = (urlsplit(address if "://" in address else f"//{address}").hostname or "").removeprefix(
        "www."
    )
    return (
        f"this is a page of {host}, not a video file; reelvec downloads nothing from such sites: "
        "get the files yourself where that is allowed, and write their paths or addresses"
    )
