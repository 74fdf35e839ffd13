"""Makes every revoke of a generation a stop, on every pool, wherever its task is: queued, prefetched or running."""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.control import Panel, nok, ok
from celery.worker.control import revoke as celerys_revoke

from chunkspool import ChunkspoolError, Spool
from chunkspool.errors import InvalidId
from chunkspool.per_process import PerProcess

logger = get_logger(__name__)

_spool = PerProcess(Spool.from_env)
"""The main process's: commands are carried out there, one after the other."""


def install() -> None:
    """Take the place of Celery's own commands, which are behind Flower's buttons, its REST API and `celery control`.

    A running task is not Celery's to end: on prefork it would kill a process, on threads and solo it cannot at all,
    and no reader would learn of it.
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
    """Stop those of the tasks that are generations; then let Celery do as ever with the others."""
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    try:
        stopped = [one for one in ids if _stop(one)]
    except ChunkspoolError as error:
        return nok(f"nothing was revoked: {error}")
    # What still waits for a slot is now thrown away by Celery, and shown as revoked by Flower.
    worker_state.revoked.update(stopped)
    others = [one for one in ids if one not in stopped]
    if others or not stopped:
        return celerys_revoke(state, others, terminate, signal, **options)
    return ok(f"tasks {stopped} stopped")


def terminate(state: Any, signal: str, task_id: str | list[str], **options: Any) -> Any:
    """Do as `revoke` does: Celery's own would call Celery's own."""
    return revoke(state, task_id, terminate=True, signal=signal, **options)


def stop_discarded(request: Any, **_: object) -> None:
    """Stop a generation whose message Celery has thrown away for a reason of its own: expired, revoked by a stamp."""
    try:
        _stop(request.id)
    except ChunkspoolError as error:
        logger.error("task %s was revoked, but its generation could not be stopped: %s", request.id, error)  # noqa: TRY400 - the store's error says it all


def _stop(task_id: str) -> bool:
    try:
        return _spool.get().revoke(task_id) is not None
    except InvalidId:
        return False  # no generation has such an id
