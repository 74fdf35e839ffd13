"""Equips a Celery app for generations: what its workers need is added where a worker serves their queue, only there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from celery import Celery, signals
from celery.utils.log import get_logger

from chunkspool.errors import ExtraMissing, SettingsError
from chunkspool.logs.exceptions import stack_of
from chunkspool.observer import Observer
from chunkspool.settings import Settings
from chunkspool.tasks import celery_tasks
from chunkspool.tasks.equipment import Equipment, equipment_of, is_equipped, note_equipment, served_queues
from chunkspool.tasks.generation_task import keep_options
from chunkspool.tasks.providers import load_provider
from chunkspool.worker import (
    broker_stats,
    garbage,
    logs,
    metrics,
    prefork,
    report,
    revocation,
    rights,
    shutdown,
    transport,
)
from chunkspool.worker.metrics import MetricsStep
from chunkspool.worker.prefork import ChildMonitor
from chunkspool.worker.redelivery import Redelivery, routed_as
from chunkspool.worker.shutdown import GracefulShutdown
from chunkspool.worker.slots import SlotOffer
from chunkspool.worker.solo import SoloCommands
from chunkspool.worker.sweeper import Sweeper
from chunkspool.worker.task_events import TaskEvents
from chunkspool.worker.visibility import VisibilityRenewal

App = TypeVar("App", bound=Celery)

logger = get_logger(__name__)

CONSUMER: Final = "chunkspool.worker.dead_letters:CarefulConsumer"
_CELERYS_CONSUMER: Final = "celery.worker.consumer:Consumer"
_TIMEOUTS: Final = {"socket_connect_timeout": 2, "socket_timeout": 5, "health_check_interval": 5}
"""Seconds, for a Redis that has vanished without a word: by default a worker would wait for it for ever."""


def equip(
    app: App,
    *,
    settings: Settings | None = None,
    queues: Iterable[str] = (),
    standalone: bool = False,
    observer: Observer | None = None,
) -> App:
    """Let workers of `app` run generations; return the app. Call it once, where the app is made.

    The app gets the task `chunkspool.generate` (and your own, see `generation_task`). A worker that serves a queue of
    generations gets all the rest: `celery -A yours worker -Q chunkspool -P threads -c 100`. There, messages of
    generations are redelivered within seconds after a worker's death, a revoke is a stop, a shutdown hands over what
    runs, lost generations are found. A worker of other queues, beat, and whoever only sends, is as it was.

    `settings`: those of the environment unless given, read when they are needed. `queues`: the queues of generations,
    the settings' own unless given. `standalone`: the app is for nothing else, every queue is one of generations, and
    the settings' broker is its broker. `observer`: who is told of what happens to generations in this process
    (`chunkspool.observer`); with `CHUNKSPOOL_METRICS_PORT`, a worker counts and serves metrics without one.
    """
    note_equipment(app, Equipment(settings, tuple(queues), standalone, observer))
    signals.celeryd_init.connect(logs.catch_warnings, dispatch_uid="chunkspool")
    signals.worker_init.connect(prepare_worker, dispatch_uid="chunkspool")
    return app


def prepare_worker(sender: Any, **_: object) -> None:
    """Prepare a worker of an equipped app, before its pool and its consumer are made.

    Ends the process if it serves a queue of generations and cannot be prepared for them: because of the settings, of
    Redis rights, of what the app's configuration accepts, or of anything else.
    """
    app = sender.app
    if not is_equipped(app):
        return
    # Celery logs an error of a signal's receiver and starts all the same: without sweeper and shutdown, for instance.
    try:
        equipment = equipment_of(app)
        queues = served_queues(app)
        if queues:
            _prepare(sender, equipment, queues)
        else:
            _warn_of_settings(equipment)
    except (SettingsError, ExtraMissing) as error:
        sys.exit(f"chunkspool: {error}")
    except Exception as error:  # noqa: BLE001 - see above
        sys.exit(f"chunkspool: the worker cannot be prepared for generations\n{stack_of(error)}")


def _prepare(worker: Any, equipment: Equipment, queues: tuple[str, ...]) -> None:
    app = worker.app
    _check(app, equipment)
    rights.check_worker(equipment)
    metrics.prepare(worker)
    keep_options(app.tasks.values(), equipment.settings)
    _replace(worker)
    app.steps["consumer"].update({VisibilityRenewal, Sweeper, SlotOffer, SoloCommands, ChildMonitor, TaskEvents})
    app.steps["worker"].update({GracefulShutdown, MetricsStep})
    _configure(worker, equipment, queues)


def _warn_of_settings(equipment: Equipment) -> None:
    """Log that the settings are wrong, if they are: a worker of other queues needs none, but its tasks may."""
    try:
        _ = equipment.settings
    except SettingsError as error:
        _warn("no worker that serves %s would start: %s", " or ".join(equipment.names), error)


def _warn(text: str, *values: object) -> None:
    """Log a warning as soon as the worker has set up its log: until then Celery drops what is logged."""

    def log(**_: object) -> None:
        logger.warning(text, *values)

    signals.celeryd_after_setup.connect(log, weak=False)


def _check(app: Celery, equipment: Equipment) -> None:
    settings = equipment.settings
    if settings.worker.task == celery_tasks.generate.name:
        load_provider(settings)
    if not {"json", "application/json"} & set(app.conf.accept_content or ()):
        raise SettingsError("messages of generations are JSON: add 'json' to the app's accept_content")


def _replace(worker: Any) -> None:
    """Take the place of what Celery and kombu have for the whole process."""
    transport.install()
    prefork.install()
    revocation.install()
    shutdown.install()
    broker_stats.install()
    report.install()
    garbage.install()
    rights.install_in_worker()
    logs.install(worker)


def _configure(worker: Any, equipment: Equipment, queues: tuple[str, ...]) -> None:
    """Set what the worker's configuration must say; more of it if the worker of your app serves nothing else.

    A standalone app's configuration is celeryconfig.py, and the command line.
    """
    conf = worker.app.conf
    # From the app's own options, not in place: other apps of the process may share them.
    held = Redelivery.of(equipment, routed_as(worker.app, queues))
    options = {**(conf.broker_transport_options or {}), **held.as_option()}
    if not equipment.standalone and len(queues) == len(worker.app.amqp.queues.consume_from):
        is_redis = worker.app.connection_for_read().transport.driver_type == "redis"
        options = {**(_TIMEOUTS if is_redis else {}), **options}
        # One message for each free slot: a generation that waits in a busy worker could run in an idle one.
        conf.worker_prefetch_multiplier = worker.prefetch_multiplier = 1
        if is_redis:
            conf.worker_disable_prefetch = True
    conf.broker_transport_options = options
    if conf.worker_consumer == _CELERYS_CONSUMER:
        conf.worker_consumer = worker.consumer_cls = CONSUMER
    else:
        _warn("worker_consumer is set: messages that no worker can run are not set aside by chunkspool")
