"""The Celery tasks: thin shells around `chunkspool.tasks.attempt` and `Spool.sweep`."""

from __future__ import annotations

import asyncio
import sys

from celery import Celery, current_app, shared_task, signals
from celery.exceptions import Reject
from celery.utils.log import get_logger

from chunkspool import Settings, Spool
from chunkspool.errors import (
    BufferFull,
    LogRolledBack,
    NotClaimed,
    ProviderError,
    Released,
    SettingsError,
    SpoolClosed,
    StoreFull,
    StoreUnavailable,
)
from chunkspool.tasks import attempt
from chunkspool.tasks.providers import load_provider
from chunkspool.tasks.runtime import ProcessRuntime, Runtime
from chunkspool.tasks.worker_end import WorkerEnd

logger = get_logger(__name__)

PAUSE = 1.0
"""Seconds before a message is requeued because of Redis: without a pause, worker and queue would pass it to and fro."""
_REQUEUED = (StoreUnavailable, StoreFull, LogRolledBack, BufferFull, SpoolClosed)

_worker_end = WorkerEnd()
_runtime = ProcessRuntime(lambda: Runtime(Settings.from_env(), _worker_end.is_under_way))

signals.worker_shutting_down.connect(_worker_end.note)
signals.worker_shutdown.connect(_worker_end.note)


def release() -> None:
    """Release the generations of this process for other workers. The worker calls it before it exits."""
    _runtime.release()


@shared_task(
    name="chunkspool.generate",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    # Readers see it as generation.failed, so Celery need not log it with a traceback.
    throws=(ProviderError,),
    release=staticmethod(release),
)
def generate(tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
    """Run one attempt at a generation. The return value is only shown, in Flower and in the worker's log."""
    runtime = _runtime.get()
    spool = runtime.spool.for_tenant(tenant)
    try:
        state = runtime.run(attempt.generate(spool, runtime.provider, chat_id, generation_id))
    except (NotClaimed, Released) as error:
        # Without its causes: Celery logs them all, and the message is enough.
        raise Reject(error, requeue=True) from None
    except _REQUEUED as error:
        # Whether the generation has ended cannot be told from here. The next worker's claim will tell: it runs the
        # generation again, or finds it ended.
        runtime.run(asyncio.sleep(PAUSE))
        raise Reject(error, requeue=True) from error
    return {"chat": chat_id, "state": state}


@shared_task(name="chunkspool.sweep", ignore_result=True)
def sweep() -> list[str]:
    """Look for lost generations; return the ids of those ended as lost. Every worker calls it from time to time."""
    lost: list[str] = []
    with Spool.from_env() as spool:
        # Only the queues that this worker serves: others may be another broker's.
        for queue in tuple(current_app.amqp.queues.consume_from):
            swept = spool.sweep(queue=queue, queue_is_empty=queue_is_empty(current_app, queue))
            lost += swept.lost
            for member, error in swept.failed:
                logger.warning("the sweep could not look after generation %s: %s", member, error)
    return lost


@shared_task(name="chunkspool.offer_slots", ignore_result=True)
def offer_slots(worker: str, slots: int) -> None:
    """Say how many generations a worker can run at once, for each queue that it serves. Every worker calls it."""
    with Spool.from_env() as spool:
        for queue in tuple(current_app.amqp.queues.consume_from):
            spool.offer_slots(worker, slots, queue=queue)


def queue_is_empty(app: Celery, queue: str) -> bool:
    """Tell whether no message waits for a worker at the broker."""
    with app.connection_for_read() as connection:
        try:
            declared = connection.default_channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            return True  # the queue does not exist: it was never used
        return not declared.message_count


@signals.worker_init.connect
def check_settings(**_: object) -> None:
    """Refuse to start with settings under which no generation could run."""
    try:
        load_provider(Settings.from_env())
    except SettingsError as error:
        # Celery logs any other error of a signal's receiver and starts all the same.
        sys.exit(f"chunkspool: {error}")


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close(**_: object) -> None:
    """Close this process's connections."""
    _runtime.close()
