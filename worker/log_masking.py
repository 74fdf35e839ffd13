"""Keeps the passwords of URLs out of the worker's log, whoever writes there: HTTP clients, SDKs, your providers."""

from __future__ import annotations

import logging

from celery import signals

from chunkspool.errors import without_password


def install() -> None:
    """Mask what Celery's handlers write. Children of the prefork pool inherit them."""
    signals.after_setup_logger.connect(mask)
    signals.after_setup_task_logger.connect(mask)


def mask(logger: logging.Logger, **_: object) -> None:
    """Let each handler of the logger mask its lines."""
    for handler in logger.handlers:
        if not isinstance(handler.formatter, MaskedLines):
            handler.setFormatter(MaskedLines(handler.formatter or logging.Formatter()))


class MaskedLines(logging.Formatter):
    """Formats as another formatter does, tracebacks included, and masks the passwords."""

    def __init__(self, formatter: logging.Formatter) -> None:
        """`formatter` makes the line."""
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = self._formatter.format(record)
        return without_password(line) if "://" in line else line
