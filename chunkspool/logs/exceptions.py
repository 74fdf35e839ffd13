"""Tells of exceptions without what they say, which may quote a prompt: types, places and causes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from traceback import extract_tb, format_list
from typing import Final

from chunkspool.errors import (
    ChunkspoolError,
    CorruptLog,
    InternalError,
    InvalidInput,
    ProviderError,
    Refused,
    SettingsError,
)

MAX_CHAIN: Final = 8
"""Exceptions of one chain, or of one group, that are told of."""
MAX_FRAMES: Final = 30
"""Frames of each: the first half and the last."""
_SAYS_SOMETHING: Final = (CorruptLog, InternalError, InvalidInput, ProviderError, Refused)
"""Ours that quote what they were given, or what somebody else's code says."""
_SAFE_MODULES: Final = frozenset({"kombu.exceptions", "amqp.exceptions", "billiard.exceptions"})
_SAFE_OF_REDIS: Final = frozenset({"ConnectionError", "TimeoutError", "AuthenticationError", "BusyLoadingError"})
"""redis-py's own words about a connection. An error reply of the server may quote the command."""


def describe(error: BaseException) -> str:
    """Return an exception's type, with what it says if that is known to quote nobody."""
    name = type(error).__name__
    if isinstance(error, ProviderError):
        code: object = error.code  # a provider of somebody's own may give anything
        return f"{name}[{code}]" if isinstance(code, str) and code.isidentifier() else name
    if is_safe(error):
        return f"{name}: {error}"
    reason = getattr(error, "reason", None)  # Celery's Reject has one
    if isinstance(reason, BaseException):
        return f"{name}: {describe(reason)}"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return f"{name}: [Errno {error.errno}] {os.strerror(error.errno)}"
    return name


def is_safe(error: BaseException) -> bool:
    """Tell whether what an exception says may be logged."""
    if isinstance(error, ChunkspoolError):
        return isinstance(error, SettingsError) or not isinstance(error, _SAYS_SOMETHING)
    kind = type(error)
    if kind.__module__ == "redis.exceptions":
        return kind.__name__ in _SAFE_OF_REDIS
    return kind.__module__ in _SAFE_MODULES or isinstance(error, ImportError)


def stack_of(error: BaseException) -> str:
    """Return the traceback with all its causes, oldest first, without anybody's words."""
    return "\n\n".join(_one(link, how) for link, how in reversed(list(_chain(error))))


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield an exception and what led to it, and how."""
    seen: set[int] = set()
    link: BaseException | None = error
    how = ""
    while link is not None and id(link) not in seen and len(seen) < MAX_CHAIN:
        seen.add(id(link))
        yield link, how
        if link.__cause__ is not None:
            link, how = link.__cause__, "\n\nThe above exception was the direct cause of the following exception:"
        elif link.__context__ is not None and not link.__suppress_context__:
            link, how = link.__context__, "\n\nDuring handling of the above exception, another exception occurred:"
        else:
            return


def _one(error: BaseException, how: str) -> str:
    frames = extract_tb(error.__traceback__)
    left_out = len(frames) - MAX_FRAMES
    if left_out > 0:
        half = MAX_FRAMES // 2
        lines = [*format_list(frames[:half]), f"  … {left_out} more\n", *format_list(frames[-half:])]
    else:
        lines = format_list(frames)
    said = describe(error)
    if isinstance(error, BaseExceptionGroup):
        said = f"{said} of {', '.join(describe(one) for one in error.exceptions[:MAX_CHAIN])}"
    return f"Traceback (most recent call last):\n{''.join(lines)}{said}{how}"
