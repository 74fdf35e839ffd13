"""Tells, once in each process, that generations are written in a Celery worker which nobody has equipped for them."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from chunkspool.per_process import PerProcess

EQUIPMENT: Final = "chunkspool_equipment"
"""The attribute of a Celery app that `chunkspool.worker.equip` sets."""

_LOG = logging.getLogger(__name__)


def warn_unless_equipped() -> None:
    """Log an error if this code is run by the task of a Celery app that lacks the worker's parts.

    Whoever has not loaded Celery is in no worker; a task that is called as a function, or eagerly, is in none, either.
    """
    if _said.peek() is None and _unequipped_app() is not None:
        _said.get()


def _unequipped_app() -> Any:
    celery = sys.modules.get("celery")
    # None, or a proxy for None: which Celery gives depends on whether a task is run.
    task = getattr(celery, "current_task", None)
    if not task or task.request.called_directly or task.request.is_eager:
        return None
    return None if hasattr(task.app, EQUIPMENT) else task.app


def _say() -> bool:
    _LOG.error(
        "this worker writes generations, but its Celery app %r was not equipped for them: if the worker dies, nobody"
        " continues or ends what it wrote, and its readers see it stalled. Call chunkspool.worker.equip(app) where the"
        " app is made and write generations in tasks made by chunkspool.worker.generation_task, or let a process run"
        " `chunkspool sweep --every 10`",
        getattr(_unequipped_app(), "main", None) or "",
    )
    return True


_said = PerProcess(_say)
