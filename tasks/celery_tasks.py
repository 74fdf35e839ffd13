"""The Celery tasks that every app with generations has: thin shells around an attempt and `Spool.sweep`."""

from __future__ import annotations

from celery import Celery, Task, shared_task, signals
from celery.utils.log import get_logger

from chunkspool import Spool
from chunkspool.tasks import generation_task
from chunkspool.tasks.equipment import equipment_of, served_queues

logger = get_logger(__name__)


@shared_task(name="chunkspool.generate", **generation_task.TASK_OPTIONS)
def generate(tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
    """Run one attempt at a generation. The return value is only shown, in Flower and in the worker's log."""
    return generation_task.generate_with_provider(tenant, chat_id, generation_id)


@shared_task(name="chunkspool.sweep", bind=True, ignore_result=True)
def sweep(self: Task) -> list[str]:
    """Look for lost generations; return the ids of those ended as lost. Every worker calls it from time to time."""
    lost: list[str] = []
    with spool_of(self.app) as spool:
        # Only the queues that this worker serves: others may be another broker's.
        for queue in served_queues(self.app):
            swept = spool.sweep(queue=queue)
            lost += swept.lost
            for member, error in swept.failed:
                logger.warning("the sweep could not look after generation %s: %s", member, error)
    return lost


@shared_task(name="chunkspool.offer_slots", bind=True, ignore_result=True)
def offer_slots(self: Task, worker: str, slots: int) -> None:
    """Say how many generations a worker can run at once, for each queue that it serves. Every worker calls it."""
    with spool_of(self.app) as spool:
        for queue in served_queues(self.app):
            spool.offer_slots(worker, slots, queue=queue)


def spool_of(app: Celery) -> Spool:
    """Return a spool with the app's settings, which sends through the app; the caller closes it."""
    equipment = equipment_of(app)
    own = None if equipment.standalone else app
    return Spool.from_settings(equipment.settings, celery_app=own, observer=equipment.observer)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close(**_: object) -> None:
    """Close this process's connections."""
    generation_task.close()
