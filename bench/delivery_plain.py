"""The rival of `bench.delivery`: the same work by Celery as its documentation advises, without a
ledger.

Acknowledged late, prefetch 1, Redis as the broker, results straight into a table: `celery -A
bench.delivery_plain worker`.
"""

from __future__ import annotations

import os
import urllib.request
from datetime import UTC, datetime

import psycopg2  # type: ignore[import-untyped]
from celery import Celery

QUEUE = "plain"

app = Celery("plain", broker=os.environ.get("CELERY_BROKER_URL"))
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
)


@app.task(name="plain.embed")  # type: ignore[untyped-decorator,unused-ignore]
def embed(uri: str) -> None:
    """Read a clip and write its one row. A failure is tried again by Celery, as often as it
    takes.
    """
    started = datetime.now(UTC)
    try:
        with urllib.request.urlopen(uri, timeout=20) as answer:
            size_bytes = len(answer.read())
        connection = psycopg2.connect(
            os.environ["DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO plain_results (uri, size_bytes, pid, started_at) VALUES (%s, %s, %s, %s)",
                               (uri, size_bytes, os.getpid(), started))  # fmt: skip
        finally:
            connection.close()
    except (OSError, psycopg2.Error) as error:
        raise embed.retry(exc=error, countdown=1, max_retries=None) from error
