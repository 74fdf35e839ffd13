"""Tells whoever observes an attempt that its model is called again: a provider is made without an observer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chunkspool.observer import NOBODY, Observer, Retried

_observer: ContextVar[Observer] = ContextVar("observer", default=NOBODY)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Tell `observer` of the calls that are made again within the block, by this task."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def report_retry() -> None:
    """Tell that a call has failed and is made again."""
    _observer.get().observe(Retried("model"))
