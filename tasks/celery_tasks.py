"""The Celery task that runs a generation: a thin shell around `tasks.attempt`."""

from __future__ import annotations

import asyncio
import sys

from celery import shared_task, signals
from celery.exceptions import Reject

from chunkspool import Settings
from chunkspool.errors import HandedOver, NotClaimed, ProviderError, SettingsError, StoreFull, StoreUnavailable
from tasks import attempt
from tasks.providers import load_provider
from tasks.runtime import PerProcess, Runtime

PAUSE = 1.0
"""Seconds before a message is given back because Redis is away or full: without it, message and worker would spin."""

_runtime = PerProcess(lambda: Runtime(Settings.from_env()))


def hand_over() -> None:
    """Let other workers go on with the generations of this process. The worker asks for it before it ends."""
    _runtime.hand_over()


@shared_task(
    name="chunkspool.generate",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    # The log has it, and Celery need not print a traceback of it.
    throws=(ProviderError,),
    hand_over=staticmethod(hand_over),
)
def generate(tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
    """Run one attempt at a generation. What it returns is for Flower's eyes only."""
    runtime = _runtime.get()
    spool = runtime.spool.for_tenant(tenant)
    try:
        state = runtime.run(attempt.generate(spool, runtime.provider, chat_id, generation_id))
    except (NotClaimed, HandedOver) as error:
        # Celery logs it with its causes: what it says is enough.
        raise Reject(error, requeue=True) from None
    except (StoreUnavailable, StoreFull) as error:
        runtime.run(asyncio.sleep(PAUSE))
        raise Reject(error, requeue=True) from error
    return {"chat": chat_id, "state": state}


@signals.worker_init.connect
def check(**_: object) -> None:
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
