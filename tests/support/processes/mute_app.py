"""An equipped app of an older version: its workers know no command that tells what they are."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready
from celery.worker.control import Panel
from support.processes.equipped_app import app

from chunkspool.doctor.worker_report import COMMAND

__all__ = ["app"]


@worker_ready.connect
def forget(**_: Any) -> None:
    """Take the command away, after whoever adds it has."""
    del Panel.data[COMMAND]
