"""Celery's own options of `celery -A workers.app worker`: what this worker cannot do as asked is
refused, not ignored.

Its pool is one of threads, its deadlines are its own, and the settings of `workers.settings` decide
its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from workers import contract

_THREADS = "celery.concurrency.thread"


def is_ours(queue: str) -> bool:
    """`reelvec`, or one of the queues below it."""
    return queue == contract.QUEUE or queue.startswith(f"{contract.QUEUE}.")


def refusals(worker: Any, *, queues: Collection[str], slots: int) -> Iterator[str]:
    """A sentence for each option of Celery's `worker` that cannot be honoured.

    `queues`: what it would take messages from; `slots`: how many videos it works on at once.
    """
    if not any(map(is_ours, queues)):
        yield (
            f"it would listen to {', '.join(sorted(queues)) or 'no queue'}, but videos are "
            f"announced in the queue {contract.QUEUE}: leave -Q and -X out"
        )
    pool = getattr(worker.pool_cls, "__module__", str(worker.pool_cls))
    if pool not in (_THREADS, "threads"):
        yield (
            f"--pool {pool.rpartition('.')[2]}: a GPU does not survive a fork, and draining needs "
            "threads: leave it out"
        )
    if worker.concurrency != slots:
        yield (
            f"--concurrency {worker.concurrency}: this worker has {slots} videos in hand, two for "
            "each sampler and one batch: set REELVEC_SAMPLERS instead"
        )
    asked = worker.options
    if asked.get("autoscale"):
        yield (
            "--autoscale: a worker's size is that of its machine: set REELVEC_SAMPLERS, or start "
            "more workers"
        )
    if worker.max_tasks_per_child or worker.max_memory_per_child:
        yield (
            "--max-tasks-per-child and --max-memory-per-child: threads cannot be replaced one by "
            "one: set REELVEC_RECYCLE_VIDEOS or REELVEC_RECYCLE_BYTES, and the whole process is"
        )
    if worker.time_limit or worker.soft_time_limit:
        yield "--time-limit and --soft-time-limit: threads cannot be ended: set REELVEC_JOB_SECONDS"
    if (worker.prefetch_multiplier or 1) != 1:
        yield (
            "--prefetch-multiplier: a worker takes a message only when it has a slot for it: leave "
            "it out"
        )
    if asked.get("beat"):
        yield (
            "--beat: there is no schedule; workers look after the ledger by themselves: leave it "
            "out"
        )
    if worker.task_events:
        yield (
            "--task-events: events are off, nothing of ours sends them; reelvec status shows what "
            "goes on: leave it out"
        )
