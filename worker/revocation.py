"""Makes every revoke of a generation a stop, on every pool, wherever its task is: queued, prefetched or running."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery.worker.control import Panel, nok
from celery.worker.control import revoke as celerys_revoke

from chunkspool import ChunkspoolError, Spool


def install() -> None:
    """Take the place of Celery's own `revoke`, which is the command behind Flower's buttons and its REST API.

    A running task is not Celery's to end: on prefork it would kill a process, on threads it cannot at all, and no
    reader would learn of it.
    """
    Panel.data["revoke"] = revoke


def revoke(
    state: Any,
    task_id: str | list[str],
    terminate: bool = False,  # noqa: FBT001, FBT002 - Celery's own signature
    signal: str | None = None,
    **options: Any,
) -> Any:
    """Stop those of the tasks that are generations; then let Celery do as ever, but terminate only the others."""
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    try:
        stopped = {one for one in ids if _spool().stop_revoked(one) is not None}
    except ChunkspoolError as error:
        return nok(f"nothing was revoked: {error}")
    others = [one for one in ids if one not in stopped]
    reply = celerys_revoke(state, list(stopped)) if stopped else None
    return celerys_revoke(state, others, terminate, signal, **options) if others or reply is None else reply


@cache
def _spool() -> Spool:
    """Return the main process's spool: commands are carried out there, one after the other."""
    return Spool.from_env()
