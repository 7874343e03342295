"""The tables of `reelvec status`: progress by category and by model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from db.progress.census import Progress
from db.progress.models import ModelProgress
from producer.status.snapshot import Snapshot

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
    table = Table(name, box=None, pad_edge=False)
    for count in counts:
        table.add_column(count.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(getattr(row, name), *(f"{getattr(row, count):,}" for count in counts))
    return table
