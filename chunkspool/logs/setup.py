"""Sets up the log of a process that is chunkspool's own: `chunkspool serve` and `chunkspool sweep`."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from chunkspool.logs.formatters import JsonLines, TextLines
from chunkspool.logs.records import is_written
from chunkspool.tracer import NO_TRACER, Tracer

_LOG = logging.getLogger("chunkspool")


def set_up_log(form: str, level: str, text: logging.Formatter, tracer: Tracer = NO_TRACER) -> None:
    """Write the whole process's log to stderr, as "json", or as `text` makes a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(tracer.current) if form == "json" else TextLines(text))
    handler.addFilter(is_written)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    log_failed_threads()
    sys.excepthook = _log_failure


def log_failed_threads() -> None:
    """Let the log tell of an error that ends a thread of ours: Python would print all that it says."""
    others = threading.excepthook

    def log(failed: threading.ExceptHookArgs) -> None:
        name = failed.thread.name if failed.thread is not None else ""
        if not name.startswith("chunkspool") or failed.exc_value is None:
            others(failed)
            return
        _LOG.error("the thread %s has failed", name, exc_info=failed.exc_value)

    threading.excepthook = log


def _log_failure(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _LOG.critical("the process has failed", exc_info=error)
