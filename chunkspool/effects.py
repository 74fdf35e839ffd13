"""Logic without I/O, for sync and async alike: a generator yields effects and is sent their results. Its two drivers.

Borrowed from sans-I/O protocol libraries: ``result = yield from effect`` reads like a call, and mypy knows its type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from chunkspool.errors import ChunkspoolError
from chunkspool.observer import Observation
from chunkspool.store.commands import ScriptCall, Transaction

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float

    def __iter__(self) -> Iterator[Self]:
        """Yield itself to whoever drives the operation."""
        yield self


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the generation to a worker. It raises `EnqueueFailed`."""

    tenant: str
    chat_id: str
    generation_id: str
    queue: str
    task: str

    def __iter__(self) -> Iterator[Self]:
        """Yield itself to whoever drives the operation."""
        yield self


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell whoever observes what has happened."""

    observation: Observation

    def __iter__(self) -> Iterator[Self]:
        """Yield itself to whoever drives the operation."""
        yield self


@dataclass(frozen=True, slots=True)
class SendAll(Generic[T]):
    """Send all of them in one round trip, not as of one moment; where one fails, its error is in its place."""

    transactions: tuple[Transaction[T], ...]

    def __iter__(self) -> Generator[Self, list[T | ChunkspoolError], list[T | ChunkspoolError]]:
        """Yield itself to whoever drives the operation; return what it was sent."""
        return (yield self)


Effect = ScriptCall[Any] | Transaction[Any] | SendAll[Any] | Publish | Pause | Tell
Operation = Generator[Effect, Any, T]
"""What an operation is: it yields effects, is sent what each has brought, and returns its own result."""


def drive(
    operation: Generator[S, Any, T],
    perform: Callable[[S], object],
    lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
) -> T:
    """Perform each effect that `operation` yields; return what it returns. It runs under `lock`, `perform` does not.

    An error of ours that `perform` raises is raised in `operation`, which may know what to do about it.
    """
    try:
        with lock:
            effect = next(operation)
        while True:
            try:
                result = perform(effect)
            except ChunkspoolError as error:
                with lock:
                    effect = operation.throw(error)
            else:
                with lock:
                    effect = operation.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def drive_async(operation: Generator[S, Any, T], perform: Callable[[S], Awaitable[object]]) -> T:
    """Perform each effect that `operation` yields, and return what it returns. See `drive`."""
    try:
        effect = next(operation)
        while True:
            try:
                result = await perform(effect)
            except ChunkspoolError as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
