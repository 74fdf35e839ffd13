"""Turns every revoke of a generation into a stop, on every pool, whether its task is queued, prefetched or running."""

from __future__ import annotations

from typing import Any

from celery import current_app, signals
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.control import Panel, nok, ok
from celery.worker.control import revoke as celery_revoke

from chunkspool import ChunkspoolError, Spool
from chunkspool.errors import InvalidId
from chunkspool.per_process import PerProcess
from chunkspool.tasks.equipment import equipment_of

logger = get_logger(__name__)


def _make_spool() -> Spool:
    equipment = equipment_of(current_app)
    return Spool.from_settings(equipment.settings, observer=equipment.observer)


_spool = PerProcess(_make_spool)
"""Used in the main process only: commands are handled there, one after the other."""


def install() -> None:
    """Replace Celery's own commands, which Flower's buttons, its REST API and `celery control` call.

    Celery cannot end a running generation: on prefork it would kill the child, on threads and solo it has no way to,
    and no reader would learn of it. A stop works on every pool and is in the log.
    """
    Panel.data["revoke"] = revoke
    Panel.data["terminate"] = terminate
    signals.task_revoked.connect(stop_discarded)


def revoke(
    state: Any,
    task_id: str | list[str],
    terminate: bool = False,  # noqa: FBT001, FBT002 - Celery's own signature
    signal: str | None = None,
    **options: Any,
) -> Any:
    """Stop the tasks that are generations, and let Celery revoke the others as usual."""
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    try:
        stopped = [task for task in ids if _stop(task)]
    except ChunkspoolError as error:
        # Celery's flag is not set either: the task must not be shown as revoked while its generation runs on.
        return nok(f"nothing was revoked: {error}")
    # With this flag Celery discards a message that still waits for a slot, and Flower shows the task as revoked.
    worker_state.revoked.update(stopped)
    others = [task for task in ids if task not in stopped]
    if others or not stopped:
        return celery_revoke(state, others, terminate, signal, **options)
    return ok(f"tasks {stopped} stopped")


def terminate(state: Any, signal: str, task_id: str | list[str], **options: Any) -> Any:
    """Do the same as `revoke`. Celery's `terminate` would call Celery's `revoke`, not ours."""
    return revoke(state, task_id, terminate=True, signal=signal, **options)


def stop_discarded(request: Any, **_: object) -> None:
    """Stop a generation whose message Celery has discarded for a reason of its own: expired, or revoked by a stamp."""
    try:
        _stop(request.id)
    except ChunkspoolError as error:
        logger.error("task %s was revoked, but its generation could not be stopped: %s", request.id, error)  # noqa: TRY400 - a traceback would add nothing to the store's message


def _stop(task_id: str) -> bool:
    try:
        return _spool.get().revoke(task_id) is not None
    except InvalidId:
        return False  # generations never have such an id
