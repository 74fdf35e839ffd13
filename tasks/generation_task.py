"""Celery tasks that write generations: yours by a decorator, chunkspool's own below it."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from celery import Task, current_app, current_task, shared_task, signals
from celery.exceptions import Reject

from chunkspool import Producer
from chunkspool.errors import (
    BufferFull,
    LogRolledBack,
    NotClaimed,
    ProviderError,
    Released,
    SpoolClosed,
    StoreFull,
    StoreUnavailable,
)
from chunkspool.observer import MessageRedelivered
from chunkspool.settings import Settings
from chunkspool.spool.equipped import warn_unless_equipped
from chunkspool.tasks import attempt
from chunkspool.tasks.equipment import equipment_of
from chunkspool.tasks.progress import ProcessProgress
from chunkspool.tasks.runtime import ProcessRuntime, Runtime
from chunkspool.tasks.worker_end import WorkerEnd

PAUSE: Final = 1.0
"""Seconds before a message is requeued because of Redis: without a pause, worker and queue would pass it to and fro."""
LIMIT_MARGIN: Final = 60.0
"""Seconds after the deadline of an answer when Celery's own time limit, which is for the prefork pool only, comes."""
_REQUEUED = (StoreUnavailable, StoreFull, LogRolledBack, BufferFull, SpoolClosed)

_worker_end = WorkerEnd()


def _make_runtime() -> Runtime:
    warn_unless_equipped()  # here, too: the loop's thread runs no task
    equipment = equipment_of(current_app)
    app = None if equipment.standalone else current_app._get_current_object()  # noqa: SLF001 - Celery's name for it
    return Runtime(equipment.settings, _worker_end.is_under_way, app, equipment.observer)


_runtime = ProcessRuntime(_make_runtime)
_progress = ProcessProgress()

signals.worker_shutting_down.connect(_worker_end.note)
signals.worker_shutdown.connect(_worker_end.note)


def release() -> None:
    """Release the generations of this process for other workers. The worker calls it before it exits."""
    _runtime.release()


TASK_OPTIONS: Final[dict[str, Any]] = {
    # A message is acknowledged when its generation has ended: a dead worker's comes back.
    "acks_late": True,
    "reject_on_worker_lost": True,
    # The answer is in the log.
    "ignore_result": True,
    # An app's task_store_errors_even_if_ignored would put failures into its result backend.
    "store_errors_even_if_ignored": False,
    "track_started": True,
    # Readers see it as generation.failed, so Celery need not log it with a traceback.
    "throws": (ProviderError,),
    # Monitors are told of a failure without what the exception says.
    "Request": "chunkspool.tasks.quiet_request:QuietRequest",
    "release_generations": staticmethod(release),
}
"""What every task that writes generations has, whatever the app's configuration says for others."""


def generation_task(
    function: Callable[[Producer], Any] | None = None, /, *, name: str | None = None, **options: Any
) -> Any:
    """Make a Celery task of a function that writes a generation: `def answer(out: Producer)`, or an `async def`.

    The function is called with the claimed generation's producer; when it returns, the answer is complete; what it
    raises ends it as failed. Like `shared_task`, the task belongs to every app of the process. `enqueue` sends messages
    to it if `CHUNKSPOOL_TASK` (the setting `task`) is its name.

    The task waits for an attempt that may be alive, gives the message back when its process ends or Redis is away, and
    returns `{"chat": …, "state": …}`, which only Celery's own tools show. After `kill -9` another attempt begins, if
    the worker was equipped (`chunkspool.worker.equip`); at most `CHUNKSPOOL_MAX_ATTEMPTS` of them.

    `name`: the task's name, its module and function unless given. `options`: further ones of Celery's.
    """
    if function is None:
        return functools.partial(generation_task, name=name, **options)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        what = f"{function.__qualname__} has a yield"
        raise TypeError(f"{what}; a generation task writes to `out`: for piece in …: out.text(piece)")
    chosen: dict[str, Any] = {"name": name or f"{function.__module__}.{function.__name__}", **TASK_OPTIONS, **options}

    def run(_self: Task, tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
        with requeued():
            return {"chat": chat_id, "state": _run(function, tenant, chat_id, generation_id)}

    # Not by `functools.wraps`: Celery checks calls with the signature, which must be the message's.
    run.__name__, run.__module__, run.__doc__ = function.__name__, function.__module__, function.__doc__
    return shared_task(bind=True, chosen_options=chosen, **chosen)(run)


def keep_options(tasks: Iterable[Task], settings: Settings) -> None:
    """Give tasks that write generations their options again, which the app's `task_annotations` may have changed.

    The time limits that an app has for its other tasks must not kill an answer: here the settings' own deadline holds.
    """
    worker = settings.worker
    hard = settings.log.lease + worker.deadline + worker.drain_grace + LIMIT_MARGIN
    limits = {"time_limit": hard, "soft_time_limit": hard - LIMIT_MARGIN / 2, "rate_limit": None}
    for task in tasks:
        if getattr(task, "release_generations", None) is release:
            for option, value in {**limits, **getattr(task, "chosen_options", TASK_OPTIONS)}.items():
                setattr(task, option, value)


def generate_with_provider(tenant: str, chat_id: str, generation_id: str) -> dict[str, str]:
    """Run one attempt with the provider of the settings."""
    with requeued():
        runtime = _get_runtime()
        spool = runtime.spool.for_tenant(tenant)
        with _progress.follow(current_task) as note:
            state = runtime.run(attempt.generate(spool, runtime.provider, chat_id, generation_id, note))
        return {"chat": chat_id, "state": state}


def close() -> None:
    """Close this process's connections."""
    _runtime.close()


@contextmanager
def requeued() -> Iterator[None]:
    """Give the message back to the broker where another attempt is to come: Celery's `Reject`."""
    try:
        yield
    except (NotClaimed, Released) as error:
        # Without its causes: Celery logs them all, and the message is enough.
        raise Reject(error, requeue=True) from None
    except _REQUEUED as error:
        # Whether the generation has ended cannot be told from here. The next worker's claim will tell: it runs the
        # generation again, or finds it ended.
        time.sleep(PAUSE)
        raise Reject(error, requeue=True) from error


def _get_runtime() -> Runtime:
    """Return the runtime of the task that begins; tell if its message has come before."""
    runtime = _runtime.get()
    info = getattr(current_task.request, "delivery_info", None) if current_task else None
    if info and info.get("redelivered"):
        runtime.spool.observer.observe(MessageRedelivered())
    return runtime


def _run(function: Callable[[Producer], Any], tenant: str, chat_id: str, generation_id: str) -> str:
    runtime = _get_runtime()
    with _progress.follow(current_task) as note:
        if inspect.iscoroutinefunction(function):
            return runtime.run(attempt.run(runtime.spool.for_tenant(tenant), chat_id, generation_id, function, note))
        spool = runtime.blocking_spool.for_tenant(tenant)
        return attempt.run_blocking(spool, chat_id, generation_id, function, runtime.exit_counts, note)
