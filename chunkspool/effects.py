"""Logic without I/O, for sync and async alike: a generator yields steps and is sent their results. Its two drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from chunkspool.errors import ChunkspoolError
from chunkspool.store.commands import Call, Reads

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the generation to a worker. It raises `EnqueueFailed`."""

    tenant: str
    chat_id: str
    generation_id: str


Step = Call[Any] | Reads[Any] | Publish | Pause
Operation = Generator[Step, Any, T]
"""What an operation is: it yields steps, is sent what each has brought, and returns its own result."""


def drive(
    steps: Generator[S, Any, T],
    do: Callable[[S], object],
    lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
) -> T:
    """Do each step that `steps` yields, and return what it returns. It runs under `lock`, `do` does not.

    An error of ours that `do` raises is raised in `steps`, which may know what to do about it.
    """
    try:
        with lock:
            step = next(steps)
        while True:
            try:
                result = do(step)
            except ChunkspoolError as error:
                with lock:
                    step = steps.throw(error)
            else:
                with lock:
                    step = steps.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def drive_async(steps: Generator[S, Any, T], do: Callable[[S], Awaitable[object]]) -> T:
    """Do each step that `steps` yields, and return what it returns. See `drive`."""
    try:
        step = next(steps)
        while True:
            try:
                result = await do(step)
            except ChunkspoolError as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
