"""Answers `chunkspool doctor`: which version this worker is, and how it is set. Never with a secret."""

from __future__ import annotations

from typing import Any

from celery import current_app
from celery.worker.control import Panel

from chunkspool.doctor.worker_report import COMMAND, WorkerReport
from chunkspool.tasks.equipment import equipment_of


def install() -> None:
    """Add the command to those of this worker."""
    Panel.data[COMMAND] = report


def report(_state: Any) -> dict[str, Any]:
    """Return the report."""
    return WorkerReport.of(equipment_of(current_app).settings).as_reply()
