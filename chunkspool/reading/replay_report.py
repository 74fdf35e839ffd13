"""What becomes of a reader that asks for a chat from a cursor on, for whoever observes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chunkspool.errors import ChatNotFound, CursorAhead, CursorExpired, GenerationNotFound
from chunkspool.observer import Observer, Replayed


@contextmanager
def report_replay(observer: Observer) -> Iterator[None]:
    """Tell whether what the block asks for is there."""
    with report_failed_replay(observer):
        yield
    observer.observe(Replayed("hit"))


@contextmanager
def report_failed_replay(observer: Observer) -> Iterator[None]:
    """Tell only if it is not there: the block looks before somebody reads."""
    try:
        yield
    except (ChatNotFound, GenerationNotFound):
        observer.observe(Replayed("miss"))
        raise
    except (CursorExpired, CursorAhead):
        # Ahead: the log that the cursor is of was erased or has expired, and another one was begun.
        observer.observe(Replayed("expired"))
        raise
