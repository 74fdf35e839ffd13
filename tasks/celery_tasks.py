"""The Celery tasks: thin shells around `tasks.attempt`, which runs a generation, and `Spool.sweep`."""

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
from tasks import attempt
from tasks.providers import load_provider
from tasks.runtime import ProcessRuntime, Runtime

logger = get_logger(__name__)

PAUSE = 1.0
"""Seconds before a message is given back because of Redis: without it, message and worker would spin."""
_NOT_WRITTEN = (StoreUnavailable, StoreFull, LogRolledBack, BufferFull, SpoolClosed)

_runtime = ProcessRuntime(lambda: Runtime(Settings.from_env()))


def release() -> None:
    """Release the generations of this process for other workers. The worker asks for it before it ends."""
    _runtime.release()


@shared_task(
    name="chunkspool.generate",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    # The log has it, and Celery need not print a traceback of it.
    throws=(ProviderError,),
    release=staticmethod(release),
)
def generate(tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
    """Run one attempt at a generation. What it returns is for Flower's eyes only."""
    runtime = _runtime.get()
    spool = runtime.spool.for_tenant(tenant)
    try:
        state = runtime.run(attempt.generate(spool, runtime.provider, chat_id, generation_id))
    except (NotClaimed, Released) as error:
        # Celery logs it with its causes: what it says is enough.
        raise Reject(error, requeue=True) from None
    except _NOT_WRITTEN as error:
        # Whoever gets the message next finds how the generation stands: to be claimed again, or ended.
        runtime.run(asyncio.sleep(PAUSE))
        raise Reject(error, requeue=True) from error
    return {"chat": chat_id, "state": state}


@shared_task(name="chunkspool.sweep", ignore_result=True)
def sweep() -> list[str]:
    """Return the ids of the generations that it has ended as lost. Every worker calls it from time to time."""
    lost: list[str] = []
    with Spool.from_env() as spool:
        # Those that this worker serves: other queues may be another broker's.
        for queue in tuple(current_app.amqp.queues.consume_from):
            swept = spool.sweep(queue=queue, queue_is_empty=queue_is_empty(current_app, queue))
            lost += swept.lost
            for member, error in swept.failed:
                logger.warning("the sweep could not look after generation %s: %s", member, error)
    return lost


def queue_is_empty(app: Celery, queue: str) -> bool:
    """Tell whether the broker holds no message that waits for a worker."""
    with app.connection_for_read() as connection:
        try:
            declared = connection.default_channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            return True  # nobody has ever used it
        return not declared.message_count


@signals.worker_init.connect
def check_settings(**_: object) -> None:
    """Refuse to start with settings that no generation could be run with."""
    try:
        load_provider(Settings.from_env())
    except SettingsError as error:
        # Celery would log any other error of a signal's receiver, and go on.
        sys.exit(f"chunkspool: {error}")


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close(**_: object) -> None:
    """Free this process's connections."""
    _runtime.close()
