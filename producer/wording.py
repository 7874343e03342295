"""Words that many lines share."""

from __future__ import annotations

from collections.abc import Sequence

#: Codes, workers and places shown in one line; `--json` has all.
SHOWN = 5


def duration(seconds: float) -> str:
    """`2 h 25 min`, `3 min`, `40 s`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.0f} days"


def size(count: float | None) -> str:
    """`16.4 MB`."""
    if count is None:
        return "–"
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`1 video`, `1,234 videos`; `many` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def ago(seconds: float | None) -> str:
    """`40 s ago`, or `never`."""
    return "never" if seconds is None else f"{duration(seconds)} ago"


def first_line(text: str) -> str:
    """The first line of an error text, without what would break a table or a terminal."""
    line = text.strip().partition("\n")[0]
    return "".join(character if character.isprintable() else " " for character in line).strip()


def counted(codes: Sequence[tuple[str, int]]) -> str:
    """`truncated 2, no_video 1`: the commonest few."""
    return ", ".join(f"{code} {count:,}" for code, count in codes[:SHOWN])


def listed(names: Sequence[str], total: int | None = None) -> str:
    """The first few of `total` names, and how many more there are."""
    more = (len(names) if total is None else total) - len(names[:SHOWN])
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
