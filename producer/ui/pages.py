"""Templates to HTML: everything that is put into one is escaped, and every number has its unit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from producer.ui import changes, charts, look, now, reading
from producer.ui.matrix import matrix
from producer.wording import ago, duration, first_line, listed, plural, size

if TYPE_CHECKING:
    from starlette.responses import Response

    from db.results.looking import Card


class Draw(Protocol):
    """Draws a page from a template's name, the tab it is `at` and what the template needs."""

    def __call__(self, name: str, *, at: str, status: int = 200, **facts: Any) -> Response: ...


#: Frames of a strip, and its size; the page holds room for it before it comes.
STRIP_WIDTH_PX, STRIP_HEIGHT_PX = 336, 112


def environment() -> Environment:
    """The templates of this package. A name that is missing is an error, not an empty place."""
    made = Environment(
        loader=PackageLoader("producer.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": lambda number: f"{number:,}",
        "rate": rate,
        "duration": duration,
        "ago": ago,
        "seconds": seconds,
        "size": size,
        "span": span,
        "percent": percent,
        "clock": clock,
        "plain": plain,
        "moment": moment,
        "old": old,
        "listed": listed,
        "plural": plural,
    }
    made.globals |= {
        "strip_width": STRIP_WIDTH_PX,
        "strip_height": STRIP_HEIGHT_PX,
        "durations": look.DURATIONS,
        "parts": charts.parts,
        "pace": charts.pace,
        "matrix": matrix,
        "chart_width": charts.WIDTH,
        "chart_height": charts.HEIGHT,
        "command": now.command,
        "remedy": now.remedy,
        "troubles": now.troubles,
        "worker_rows": now.worker_rows,
        "verdict_words": now.verdict_words,
        "name_of": name_of,
        "has_pages": True,
        "changes": False,
        "change_of": changes.Change.of_command,
        "upload_bytes": reading.UPLOAD_BYTES,
        "picture": picture,
    }
    return made


def picture(card: Card) -> str | None:
    """The address of a video's picture; None: it has none."""
    if card.strip_version is None:
        return None
    return f"/strips/{card.video_id}?v={card.strip_version}"


def name_of(card: Card) -> str:
    """How people call a video: its title, else the last part of its address."""
    if title := plain(card.title or ""):
        return title
    return plain(card.address.rstrip("/").rpartition("/")[2]) or f"video {card.video_id}"


def plain(text: object) -> str:
    """One line, without what would move the cursor or turn the direction of what follows."""
    return first_line(str(text))


def rate(per_second: float) -> str:
    """`0.04 videos/s`, `18 videos/s`."""
    digits = 0 if per_second >= 100 else 1 if per_second >= 1 else 2
    return f"{per_second:,.{digits}f} videos/s"


def seconds(value: float | None) -> str:
    """Short times exactly, long ones in words."""
    if value is None:
        return "–"
    if value >= 100:
        return duration(value)
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def span(value: float) -> str:
    """`10 min`, `6 h`: the spans of a chart are whole."""
    return f"{value / 3600:g} h" if value >= 3600 else f"{value / 60:g} min"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def clock(value: float) -> str:
    """`1:04.5`"""
    minutes, tenths = divmod(round(value * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def old(at: datetime) -> str:
    """`40 s ago`"""
    return ago((datetime.now(UTC) - at).total_seconds())


def moment(at: datetime | None) -> str:
    """A time of this machine's zone."""
    return "–" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
