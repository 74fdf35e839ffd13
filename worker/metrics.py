"""Counts what a worker does, and serves it to Prometheus from the main process, if CHUNKSPOOL_METRICS_PORT is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import bootsteps, concurrency
from celery.concurrency import prefork
from celery.utils.log import get_logger
from celery.worker.components import Pool

from chunkspool.metrics import process_files
from chunkspool.results import Stats
from chunkspool.settings import variable_of
from chunkspool.spool import Spool
from chunkspool.tasks.equipment import equipment_of, note_equipment, served_queues

if TYPE_CHECKING:
    from chunkspool.metrics.http_server import MetricsServer

logger = get_logger(__name__)


def prepare(worker: Any) -> None:
    """Make the observer of a worker that serves metrics, before it has children: these count with it, too."""
    equipment = equipment_of(worker.app)
    if equipment.settings.metrics.metrics_port is None or equipment.observer is not None:
        return
    if _has_children(worker):
        process_files.count_in_files()
    # Loaded only where there are metrics.
    from chunkspool.metrics.instruments import PrometheusObserver  # noqa: PLC0415

    note_equipment(worker.app, equipment.observed_by(PrometheusObserver.with_own_registry()))


class MetricsStep(bootsteps.StartStopStep):
    """Serves from after the pool's start until after its end."""

    requires = (Pool,)

    def __init__(self, worker: Any, **options: Any) -> None:
        """Serve nothing yet."""
        super().__init__(worker, **options)
        self._server: MetricsServer | None = None
        self.enabled = equipment_of(worker.app).settings.metrics.metrics_port is not None

    def start(self, worker: Any) -> None:
        """Listen and answer. A port that is taken is no reason to run no generations."""
        from chunkspool.metrics.exposition import Exposition  # noqa: PLC0415 - loaded only where there are metrics
        from chunkspool.metrics.http_server import MetricsServer  # noqa: PLC0415

        equipment = equipment_of(worker.app)
        settings = equipment.settings.metrics
        exposition = None if equipment.observer is None else Exposition.find(equipment.observer, equipment.settings)
        if exposition is None:
            logger.error("no metrics are served: the observer given to equip() is no PrometheusObserver")
            return
        if _has_children(worker) and process_files.folder() is None:
            logger.error(
                "what the children of this worker do is not counted in its metrics: set %s to an empty folder before"
                " the worker starts, or leave observer= out of equip()",
                process_files.VARIABLE,
            )
        exposition.add_stats(_reader_of(worker))
        host, port = settings.metrics_host, settings.metrics_port or 0
        try:
            self._server = MetricsServer(exposition, host, port)
        except OSError as error:
            logger.error(  # noqa: TRY400 - a traceback would add nothing
                "no metrics are served: this worker cannot listen on %s port %s (%s). If another worker of this machine"
                " has the port, give each one its own by %s",
                *(host, port, error.strerror or error, variable_of("metrics_port")),
            )
            return
        self._server.start()
        logger.info("metrics for Prometheus are served on http://%s:%s/metrics", host, self._server.port)

    def stop(self, _worker: Any) -> None:
        """Go on: the last generations end after this."""

    def close(self, _worker: Any) -> None:
        """Go on, as above."""

    def terminate(self, _worker: Any) -> None:
        """Go on until the process ends, with which its threads end, too."""


def _has_children(worker: Any) -> bool:
    return issubclass(concurrency.get_implementation(worker.pool_cls), prefork.TaskPool)


def _reader_of(worker: Any) -> Callable[[], Stats]:
    """Return the `stats` of a spool of this process alone, about the queue that the worker serves."""
    spool = Spool.from_settings(equipment_of(worker.app).settings)
    queue = next(iter(served_queues(worker.app)), None)
    return lambda: spool.stats(queue=queue)
