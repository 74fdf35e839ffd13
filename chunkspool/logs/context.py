"""Which generation, chat and tenant the code at hand works for: what its log records say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class LogContext:
    """What is known; the rest is None."""

    tenant: str | None = None
    chat: str | None = None
    generation: str | None = None
    attempt: int | None = None


_NOTHING: Final = LogContext()
_CURRENT: Final = ContextVar("chunkspool_log_context", default=_NOTHING)


def current() -> LogContext:
    """Return what is known here."""
    return _CURRENT.get()


class Logged:
    """A block's context, of which more becomes known."""

    def note_attempt(self, attempt: int) -> None:
        """Note which attempt it is."""
        _CURRENT.set(replace(_CURRENT.get(), attempt=attempt))


@contextmanager
def logged_as(tenant: str, chat_id: str, generation_id: str) -> Iterator[Logged]:
    """Within the block, log records are of this generation."""
    token = _CURRENT.set(LogContext(tenant, chat_id, generation_id))
    try:
        yield Logged()
    finally:
        with suppress(ValueError):  # a block that is left by another task than the one that entered it
            _CURRENT.reset(token)


def note_request(tenant: str, chat_id: str, generation_id: str | None = None) -> None:
    """Note what the request at hand is about. A web server serves each request in a context of its own."""
    _CURRENT.set(LogContext(tenant, chat_id, generation_id))
