"""The worker's log has no passwords of URLs in it, whoever writes there."""

from __future__ import annotations

import io
import logging

from chunkspool.worker.logs import WorkerLog

SECRET = "hunter2"
URL = f"https://me:{SECRET}@host/v1"


def lines_of(error: Exception | None, message: str, *values: object) -> str:
    """Return what a masked log has when this is written into it."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    log = logging.getLogger("of a worker")
    log.handlers.clear()
    log.addHandler(handler)
    mask(log)
    mask(log)  # Celery sends its signal more than once
    log.error(message, *values, exc_info=error)
    return told.getvalue()


def test_a_line_is_masked() -> None:
    """Whether the URL stands in the text or in its arguments; the rest of the line stays."""
    assert lines_of(None, "HTTP Request: %s %s", "POST", URL) == "HTTP Request: POST https://me:***@host/v1\n"
    told = lines_of(None, f"redis://:{SECRET}@host:1/0 and redis://host?sentinel_password={SECRET}")
    assert told == "redis://:***@host:1/0 and redis://host?sentinel_password=***\n"


def test_a_traceback_is_masked() -> None:
    """An error of a library may quote the URL that it was given."""
    told = lines_of(ValueError(f"cannot open {URL}"), "failed")
    assert "ValueError: cannot open https://me:***@host/v1" in told
    assert SECRET not in told
