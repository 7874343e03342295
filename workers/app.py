"""All Celery configuration: pool, concurrency, queue and transport live here, so that

    celery -A workers.app worker

is the whole worker. Reasons and measurements for each value: docs/architecture.md, "Celery".
"""

from __future__ import annotations

# isort: off
import reelvec_origin  # noqa: F401 - before anything else of ours is imported
# isort: on

import logging
import sys
import warnings
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning, Reject, SecurityWarning
from celery.loaders.app import AppLoader
from celery.utils.nodenames import node_format

from db import logs, settings
from db.errors import ReelvecError, UsageError
from db.stack import addresses
from workers import contract
from workers.delivery import consuming
from workers.health.pulse import PULSE
from workers.node import celery_options
from workers.settings import WorkerSettings


def configuration() -> dict[str, Any]:
    """Celery settings for the addresses and the worker settings in the environment."""
    worker = settings.load(WorkerSettings)
    return {
        "broker_url": addresses.resolve().broker_url,
        "imports": ["workers.tasks"],
        "task_default_queue": contract.QUEUE,
        # CUDA does not survive fork; this pool has no time limits, so every deadline is our own.
        "worker_pool": "threads",
        "worker_concurrency": worker.slots,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        # Nothing of ours listens to events or remote control, and pub/sub sockets are what hangs
        # unseen.
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A broker that refuses (full, read-only, loading) is one that is away: no reason to end.
        "broker_channel_error_retry": True,
        # What runs counts already (worker_disable_prefetch); this would hold slots back after every
        # reconnection.
        "worker_enable_prefetch_count_reduction": False,
        # The transport itself is ours: workers/delivery/transport.py. It keeps no message, so there
        # is no visibility timeout.
        "broker_transport_options": {
            # A half-open socket heals in 11 s; with the defaults never.
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "retry_on_timeout": False,
            "global_keyprefix": contract.KEY_PREFIX,
            "video_slots": worker.video_slots,
        },
    }


def _defaults() -> dict[str, Any]:
    try:
        return configuration()
    except ReelvecError as error:  # Celery would show a traceback, or nothing
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_code) from error


# Told with every lost connection: of a setting that is chosen above.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
# Told to root: of pickles, which we do not accept, and of an option that `reelvec worker` lacks.
warnings.filterwarnings("ignore", category=SecurityWarning)


class Loader(AppLoader):
    """Imports our tasks from where this module is, not from the current folder."""

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        return (imp or self.import_module)(module, package=package)


app = Celery("reelvec", amqp="workers.delivery.transport:AMQP", loader=Loader)
app.add_defaults(_defaults)


class HubPulse(bootsteps.StartStopStep):
    """Lets health see that the consumer is connected and that its hub turns."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def register_with_event_loop(self, _consumer: Any, hub: Any) -> None:
        """Called after every connection; the consumer takes the timer away again when it loses
        it.
        """
        PULSE.turn()
        hub.timer.call_repeatedly(1.0, PULSE.turn)

    def stop(self, _consumer: Any) -> None:
        PULSE.disconnect()


app.steps["consumer"].add(HubPulse)


def _is_no_handing_back(record: logging.LogRecord) -> bool:
    """Celery tells each `Reject`, by which a video is handed back, with a traceback."""
    return not isinstance(record.exc_info and record.exc_info[1], Reject)


@signals.setup_logging.connect
def _setup_logging(loglevel: int | None = None, logfile: str | None = None, **_: Any) -> None:
    """Celery's default is WARNING; what our own code says of a worker's life is wanted then,
    too.
    """
    logs.configure_logging(loglevel or logging.INFO, logfile)
    logging.getLogger("celery.app.trace").addFilter(_is_no_handing_back)
    for name in ("workers", "db"):
        logging.getLogger(name).setLevel(
            logging.INFO if loglevel == logging.WARNING else logging.NOTSET
        )


@signals.worker_init.connect
def _prepare(sender: Any, **_: Any) -> None:
    from workers import launch

    logfile = node_format(sender.logfile, sender.hostname) if sender.logfile else None
    try:
        _setup_logging(sender.loglevel, logfile)  # Celery does it after this
        _refuse_options(sender)
        launch.prepare(sender.app, sender.hostname)
    except ReelvecError as error:  # Celery swallows ordinary exceptions in this signal
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        if logfile is not None:  # a detached worker's stderr leads nowhere
            logging.getLogger(__name__).error("this worker does not start: %s", error)
        raise SystemExit(error.exit_code) from error


def _refuse_options(worker: Any) -> None:
    queues = worker.app.amqp.queues.consume_from
    refused = list(
        celery_options.refusals(worker, queues=queues, slots=settings.load(WorkerSettings).slots)
    )
    if refused:
        raise UsageError(f"Celery's options do not fit this worker: {'; '.join(refused)}.")


@signals.worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:
    consuming.consumption.video_slots = settings.load(WorkerSettings).video_slots
    consuming.consumption.ready(sender)


@signals.task_prerun.connect
def _began(task: Any, **_: Any) -> None:
    consuming.consumption.began(task.request.delivery_info["routing_key"])


@signals.task_postrun.connect
def _ended(task: Any, **_: Any) -> None:
    consuming.consumption.ended(task.request.delivery_info["routing_key"])


class Ending(bootsteps.StartStopStep):
    """How a worker ends is ours: begun when Celery has installed its handlers of signals, told when
    it leaves its loop.
    """

    def start(self, _worker: Any) -> None:
        from workers import launch

        launch.handle_signals()

    def close(self, _worker: Any) -> None:
        from workers import launch

        launch.celery_ends()


app.steps["worker"].add(Ending)


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    from workers import launch

    launch.close()
