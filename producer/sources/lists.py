"""Which lists are read, and what is no list at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from db.errors import UsageError
from producer.sources.csvlists import read_table
from producer.sources.jsonlists import read_json
from producer.sources.manifest import Context, RowError, VideoRow
from producer.sources.parquet import read_parquet
from producer.sources.textlists import read_text

TABLES = (".csv", ".tsv", ".tab")
JSON = (".jsonl", ".ndjson", ".json")
LISTS = (*TABLES, *JSON, ".txt", ".parquet")
PACKINGS = (".gz", ".bz2", ".xz", ".zst")
READ = (
    "the lists that are read are .csv, .tsv, .tab, .jsonl, .ndjson, .json, .txt and .parquet, also "
    "compressed (.gz, .bz2, .xz, .zst)"
)
#: Files that people give as a source and that are neither a video nor a list.
_OTHERS = frozenset(
    [
        "xlsx",
        "xls",
        "xlsm",
        "ods",
        "numbers",
        "zip",
        "rar",
        "7z",
        "tar",
        "tgz",
        "tbz2",
        "txz",
        "gz",
        "bz2",
        "xz",
        "zst",
        "html",
        "htm",
        "xml",
        "yaml",
        "yml",
        "toml",
        "ini",
        "md",
        "rst",
        "py",
        "ipynb",
        "sh",
        "js",
        "css",
        "c",
        "h",
        "cpp",
        "java",
        "go",
        "rs",
        "sql",
        "log",
        "pdf",
        "doc",
        "docx",
        "ppt",
        "pptx",
        "rtf",
        "png",
        "jpg",
        "jpeg",
        "bmp",
        "tif",
        "tiff",
        "heic",
        "svg",
        "mp3",
        "wav",
        "flac",
        "m4a",
        "aac",
        "opus",
        "npy",
        "npz",
        "pt",
        "pth",
        "safetensors",
        "pkl",
        "pickle",
        "h5",
        "hdf5",
        "feather",
        "arrow",
        "orc",
        "avro",
        "db",
        "sqlite",
        "sqlite3",
        "srt",
        "vtt",
        "m3u",
        "m3u8",
        "mpd",
        "pls",
        "cfg",
        "env",
        "lock",
    ]
)
_LOOKED_AT_BYTES = 4_096


def list_kind(name: str) -> str | None:
    """`.csv` for `videos.csv` and `videos.CSV.gz`; None: by its name it is no list."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in LISTS else None


def refuse_other(name: str) -> None:
    """Raises `UsageError` for a name that neither a list that is read nor a video has."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix.removeprefix(".") in _OTHERS:
        raise UsageError(f"{name}: {suffix} is neither a list that is read nor a video; {READ}")


def refuse_text(path: Path) -> None:
    """Raises `UsageError` for a file of text: prose, code and tables are no videos, whatever they
    are called.
    """
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT_BYTES)
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character is cut off at the end
            return
        text = head[: error.start].decode()
    if text and (
        text.isprintable()
        or not any(ord(character) < 32 and character not in "\t\n\r\f" for character in text)
    ):
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        raise UsageError(f"{path} is a text ({first[:60]!r}), not a video; {READ}")


def read_list(path: Path, context: Context) -> Iterator[VideoRow | RowError]:
    """Stream the rows of a list, of the kind its name says. Raises `UsageError` at once, before any
    row.
    """
    kind = list_kind(path.name)
    if kind in TABLES:
        return read_table(path, context)
    if kind in JSON:
        return read_json(path, context)
    if kind == ".parquet":
        return read_parquet(path, context)
    return read_text(path, context)
