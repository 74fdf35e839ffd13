"""A generation's request in a worker: what its events tell of a failure quotes nobody.

Celery sends an exception's text and traceback to all monitors, and a task's exception may quote a prompt. Only a worker
loads this module: a task names it by its attribute `Request`.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker.request import Request

MAX_FRAMES: Final = 30
"""Frames of a traceback that are told of: the last ones, which are the task's own."""


class QuietRequest(Request):
    """Celery's, but for what it tells monitors of exceptions."""

    _failure: Any = None

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Note what has failed, and do what Celery does."""
        self._failure = exc_info
        super().on_failure(exc_info, send_failed_event, return_ok)

    def on_retry(self, exc_info: Any) -> None:
        """Note why it is to be tried again, and do what Celery does."""
        self._failure = exc_info
        super().on_retry(exc_info)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name for it
        """Send an event; of an exception that the task has raised only its type, and where it came from."""
        told = {} if self._failure is None else tell(self._failure)
        super().send_event(type, **fields | {name: told[name] for name in told if name in fields})


def tell(failure: Any) -> dict[str, str]:
    """Return the type of a failure's exception, and the places that its traceback names: no line of anybody's text.

    It came from the child of a pool, perhaps: then it is billiard's likeness of an exception's traceback.
    """
    error = getattr(failure, "exception", None)
    # billiard wraps what it pickles; Celery's Retry has the reason inside.
    error = getattr(error, "exc", None) or error
    name = "Exception" if error is None else type(error).__name__
    lines, link = [], getattr(failure, "tb", None)
    while link is not None:
        code = link.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {link.tb_lineno}, in {code.co_name}')
        link = link.tb_next
    return {
        "exception": name,
        "traceback": "\n".join(["Traceback (most recent call last):", *lines[-MAX_FRAMES:], name]),
    }
