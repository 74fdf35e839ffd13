"""The worker's log: text or JSON, whoever writes there, without passwords, and without prompts or answers."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

from billiard.util import get_logger as get_pool_logger
from celery import Celery, current_task, signals
from celery.apps import worker as celery_worker

from chunkspool.errors import SettingsError
from chunkspool.ids import MAX_ID_LENGTH
from chunkspool.logs.context import LogContext, current
from chunkspool.logs.formatters import JsonLines, TextLines
from chunkspool.logs.records import is_any, is_written, may_quote
from chunkspool.logs.setup import log_failed_threads
from chunkspool.tasks.equipment import equipment_of
from chunkspool.tracing.choose import choose_tracer


def install(worker: Any) -> None:
    """Write what Celery's handlers write in the settings' form. Children of the prefork pool inherit them."""
    log = WorkerLog(worker.app)
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(log.take_over, weak=False)
    log_failed_threads()
    if log.is_json:
        # Celery prints its banner, and what it says at the end, past the log.
        worker.quiet = True
        celery_worker.safe_say = log.say


def catch_warnings(instance: Any, **_: object) -> None:
    """Write what Celery warns of before it sets up its log: that the user is root, for instance."""
    equipment = equipment_of(instance.app)
    with suppress(SettingsError):  # which ends the worker, a moment later
        if equipment.standalone and equipment.settings.telemetry.log == "json":
            logging.captureWarnings(capture=True)
            early = logging.StreamHandler()
            early.setFormatter(JsonLines())
            logging.getLogger().addHandler(early)


class WorkerLog:
    """The log of one worker."""

    def __init__(self, app: Celery) -> None:
        """Take the form from the app's settings. If the app has other tasks, too, their records say what they say."""
        equipment = equipment_of(app)
        self._app = app
        self.is_json = equipment.settings.telemetry.log == "json"
        self._applies = is_any if equipment.standalone else self._may_quote
        self.lines = JsonLines(choose_tracer(equipment.settings).current, self._context_of, self._applies)

    def take_over(self, logger: logging.Logger, **_: object) -> None:
        """Let each handler of the logger, and of the pool's own, write in this form."""
        for handler in (*logger.handlers, *get_pool_logger().handlers):
            if isinstance(handler.formatter, JsonLines | TextLines):
                continue  # Celery sends its signal more than once
            text = TextLines(handler.formatter or logging.Formatter(), self._applies)
            handler.setFormatter(self.lines if self.is_json else text)
            handler.addFilter(is_written)

    def say(self, message: str, stream: Any = None) -> None:
        """Write what Celery says in a signal's handler, where nothing that waits for a lock may be called."""
        record = logging.LogRecord("celery.worker", logging.WARNING, __file__, 0, message, None, None)
        line = self.lines.format(record) + "\n"
        os.write(stream.fileno() if hasattr(stream, "fileno") else 2, line.encode())

    def _may_quote(self, record: logging.LogRecord) -> bool:
        return may_quote(record) or self._context_of(record).generation is not None

    def _context_of(self, record: logging.LogRecord) -> LogContext:
        """Return what is known where it is logged; of Celery's own lines, what the task's message says."""
        here = current()
        if here.generation is not None:
            return here
        task = current_task
        if task and writes_generations(task):
            args = task.request.args or ()
            return LogContext(*args) if len(args) == _IDS and all(map(_is_id, args)) else here
        data = getattr(record, "data", None)
        if isinstance(data, dict) and writes_generations(self._app.tasks.get(data.get("name"))):
            return LogContext(generation=data["id"]) if _is_id(data.get("id")) else here
        return here


_IDS = 3
"""Tenant, chat and generation: all that a message holds."""


def _is_id(value: object) -> bool:
    """Tell whether it is an id: a message may hold anything."""
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH


def writes_generations(task: Any) -> bool:
    """Tell whether a task of Celery's is one that writes generations."""
    return getattr(task, "release_generations", None) is not None
