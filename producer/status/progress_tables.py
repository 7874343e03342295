"""The tables of `reelvec status`: progress by category and by model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from db.progress.census import Progress
from db.progress.models import ModelProgress
from producer.status.snapshot import Snapshot
from producer.tables import drawn_table

#: Columns of the table of categories and of that of models; the first is a name, the others are
#: counts.
CATEGORY_COLUMNS = ("category", "videos", "done", "failed", "running", "waiting")
MODEL_COLUMNS = ("encoder", "wanted", "embedded", "failed", "waiting", "waiting_for_weights")


def progress_tables(snapshot: Snapshot) -> list[RenderableType]:
    """Progress by category and, once anything is wanted, by model."""
    tables = [_table(CATEGORY_COLUMNS, snapshot.rows)]
    return tables + ([_table(MODEL_COLUMNS, snapshot.models)] if snapshot.models else [])


def _table(columns: tuple[str, ...], rows: Sequence[Progress | ModelProgress]) -> RenderableType:
    name, *counts = columns
    titles = [count.replace("_", " ") for count in counts]
    cells = [
        (getattr(row, name), *(f"{getattr(row, count):,}" for count in counts)) for row in rows
    ]
    return drawn_table((name, *titles), cells, right=titles)
