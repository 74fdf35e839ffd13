"""The worker's log has no passwords of URLs in it, whoever writes there."""

from __future__ import annotations

import io
import logging

import pytest

from worker.log_masking import mask

SECRET = "hunter2"


@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.info("HTTP Request: %s %s", "POST", f"https://me:{SECRET}@host/v1"),
        lambda log: log.warning(f"redis://:{SECRET}@host:1/0 and https://a:{SECRET}@b/?sentinel_password={SECRET}"),
    ],
)
def test_a_line_is_masked(write: object) -> None:
    """Whether the URL stands in the text or in its arguments; the rest of the line stays."""
    told = io.StringIO()
    log = logging.Logger("any")
    log.addHandler(logging.StreamHandler(told))
    mask(log)
    mask(log)  # Celery sends its signal more than once
    write(log)  # type: ignore[operator]
    assert SECRET not in told.getvalue()
    assert "host" in told.getvalue()


def test_a_traceback_is_masked() -> None:
    """An error of a library may quote the URL that it was given."""
    told = io.StringIO()
    log = logging.Logger("any")
    log.addHandler(logging.StreamHandler(told))
    mask(log)
    try:
        raise ValueError(f"cannot open https://me:{SECRET}@host/v1")
    except ValueError:
        log.exception("failed")
    assert "Traceback" in told.getvalue()
    assert SECRET not in told.getvalue()
