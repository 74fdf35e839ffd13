"""The producer: what a model's loop calls to say something in one claimed generation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from chunkspool.errors import (
    Fenced,
    HandedOver,
    Interrupted,
    InvalidInput,
    ProviderError,
    Stopped,
    StoreError,
    StoreUnavailable,
)
from chunkspool.events import (
    Data,
    Ending,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    Known,
    ToolCall,
    ToolResult,
    Usage,
    encode,
)
from chunkspool.producing.buffer import Kind
from chunkspool.producing.flusher import NOT_WRITTEN, Flusher
from chunkspool.producing.outbox import Lane
from chunkspool.provider import ModelRequest
from chunkspool.request import Claim
from chunkspool.settings import Settings
from chunkspool.store.scripts import EndState


class Producer:
    """Says what one attempt of a generation has to say. Make one with `Spool.produce`, in a `with` block.

    The methods never wait for Redis: they fill a buffer that the process's flusher empties. Each of them raises
    `Stopped` after a stop, `Fenced` when a newer attempt has the generation or the block was left, `HandedOver` when
    this process is about to end, and `StoreError` when Redis has been away for `write_timeout` seconds. When the buffer
    is full, a sync block waits for room; an async one is asked to ``await out.drain()``.

    Leaving the block writes exactly one ending: `generation.completed`, `generation.failed` after an exception (it
    propagates), or `generation.stopped` after a stop: as a cancel scope does with its own cancellation, the block keeps
    `Stopped` to itself. After `HandedOver` it writes none, but frees the generation for the next attempt. In an async
    block a stop, a fence, a handing over and a lost Redis cancel the task inside the block, so that it ends also while
    the model is silent.
    """

    def __init__(self, lane: Lane, flusher: Flusher, settings: Settings, claim: Claim) -> None:
        """Take over a lane that was just claimed."""
        self.request: ModelRequest = claim.request
        """What the model is asked."""
        self.state = "running"
        """The generation's state; "completed", "stopped" or "failed" after the block."""
        self._lane = lane
        self._flusher = flusher
        self._settings = settings
        self._finish_reason = "stop"
        self._restarts = claim.restarts
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelling = 0
        self._cancelled = False
        self._leaving = False

    @property
    def generation_id(self) -> str:
        """The generation's id."""
        return self._lane.generation_id

    @property
    def chat_id(self) -> str:
        """The chat's id."""
        return self._lane.keys.chat_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._lane.attempt

    def text(self, text: str) -> None:
        """Say a piece of the answer."""
        self._say("text", text)

    def reasoning(self, text: str) -> None:
        """Say a piece of the model's thinking."""
        self._say("reasoning", text)

    def tool_call(self, id: str, name: str, arguments: str) -> None:  # noqa: A002 - the event's own field
        """Say that the model calls a tool; `arguments` is JSON text as the model wrote it."""
        self._event(ToolCall, id=id, name=name, arguments=arguments)

    def tool_result(self, id: str, output: Any) -> None:  # noqa: A002 - the event's own field
        """Say what a tool gave back: any JSON value."""
        self._event(ToolResult, id=id, output=output)

    def data(self, name: str, value: Any) -> None:
        """Say something of the app's own: any JSON value."""
        self._event(Data, name=name, value=value)

    def usage(self, input_tokens: int, output_tokens: int) -> None:
        """Say how many tokens are to be paid."""
        self._event(Usage, input_tokens=input_tokens, output_tokens=output_tokens)

    def finish(self, reason: str) -> None:
        """Set the `finish_reason` that `generation.completed` will carry; "stop" unless set."""
        self._finish_reason = reason

    def restart(self) -> None:
        """Tell readers that what this generation has said so far is void, and begin anew, without a `prefix`."""
        self.request = replace(self.request, prefix="")
        model = self.request.model or self._settings.model
        self._event(GenerationStarted, attempt=self.attempt, model=model)

    async def drain(self) -> None:
        """Wait until the buffer has room. Raises what the other methods raise."""
        if self._lane.buffer.full:
            await asyncio.wrap_future(self._lane.buffer.room())
        self._check()

    def __enter__(self) -> Self:
        """Begin to write."""
        self._open()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Write the ending and wait until Redis has it."""
        self._leaving = True
        self._end(error)
        return self._left(error, self._lane.ended.exception())

    async def __aenter__(self) -> Self:
        """Begin to write, and to cancel this task when the generation is no longer ours."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._open()
        self._lane.watch(self._interrupted)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Write the ending and wait until Redis has it."""
        self._leaving = True
        ours = self._absorbed() and isinstance(error, asyncio.CancelledError)
        cause = self._lane.interruption if ours else error
        self._end(cause)
        await self._wait_for_end()
        absorbed = self._left(cause, self._lane.ended.exception())
        if ours and cause is not None and not absorbed:
            raise cause
        return absorbed

    def _open(self) -> None:
        self._flusher.open(self._lane)
        if self._restarts:
            # Whoever is interrupted already hears of it inside the block, which then can be left in order.
            with suppress(Interrupted):
                self.restart()

    async def _wait_for_end(self) -> None:
        ended = asyncio.wrap_future(self._lane.ended)
        # The lane's error is raised from the lane. This copy's is only taken, else asyncio logs it as one nobody saw.
        ended.add_done_callback(asyncio.Future.exception)
        await asyncio.wait({ended})

    def _interrupted(self) -> None:
        """Cancel the task from whichever thread learned of it."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and the task went with it
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # Once the block is being left there is no model call to close, and the cancellation would hit the ending.
        if self._task is not None and not self._leaving:
            self._cancelled = True
            self._task.cancel()

    def _absorbed(self) -> bool:
        """Take our own cancellation back; tell whether it was the only one (as asyncio.timeout does)."""
        return self._cancelled and self._task is not None and self._task.uncancel() <= self._cancelling

    def _check(self) -> None:
        if self._lane.interruption is not None:
            raise self._lane.interruption
        if self._leaving:
            raise Fenced(f"generation {self.generation_id}: its block was left, and nothing stands after its ending")

    def _say(self, kind: Kind, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidInput(f"{kind} takes a str, not {type(text).__name__}")
        if text:
            self._make_room()
            if self._lane.buffer.add_text(kind, text):
                self._flusher.mark(self._lane)

    def _event(self, kind: type[Known], **fields: Any) -> None:
        try:
            encoded = encode(kind(generation=self.generation_id, **fields))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or kind.__name__
            raise InvalidInput(f"{where}: {first['msg']}") from None
        if len(encoded) > self._settings.max_event_bytes:
            raise InvalidInput(
                f"the event has {len(encoded)} bytes; max_event_bytes is {self._settings.max_event_bytes}"
            )
        self._make_room()
        if self._lane.buffer.add_event(encoded):
            self._flusher.mark(self._lane)

    def _make_room(self) -> None:
        self._check()
        if not self._lane.buffer.full:
            return
        if self._task is not None:
            raise StoreUnavailable(
                "the buffer is full because Redis does not keep up: await out.drain() between writes"
            )
        try:
            self._lane.buffer.room().result(self._settings.write_timeout)
        except TimeoutError:
            waited = self._settings.write_timeout
            raise StoreUnavailable(f"the buffer was full for {waited:g} seconds: Redis does not keep up") from None
        self._check()

    def _end(self, error: BaseException | None) -> None:
        """Hand the ending to the flusher, unless nothing of this attempt can be written any more."""
        if self._lane.ended.done():
            return
        if isinstance(error, HandedOver):
            self._lane.buffer.end_released()
        else:
            state, event = _ending(self.generation_id, error, self._finish_reason)
            self._lane.buffer.end(state, encode(event))
        self._flusher.mark(self._lane)

    def _left(self, cause: BaseException | None, failure: BaseException | None) -> bool:
        """Note how it ended; raise `failure`, for which no ending could be written; tell whether to keep `cause`."""
        ended = failure is None or isinstance(failure, Stopped)
        # What was to be handed over was stopped in the same moment: nothing is left of it to tell.
        absorbed = isinstance(cause, Stopped) or (ended and isinstance(cause, HandedOver))
        if failure is None:
            self.state = self._lane.ended.result()
            if self.state == "failed" and cause is None and self._lane.interruption is not None:
                raise self._lane.interruption
        elif isinstance(failure, Stopped):
            self.state = "stopped"
        elif cause is None or absorbed:
            raise failure
        elif cause is not failure:
            cause.add_note(f"The ending was not written: {failure}")
        return absorbed


def _ending(generation_id: str, error: BaseException | None, finish_reason: str) -> tuple[EndState, Ending]:
    """Return the ending for what left the block. After a stop, the script writes the stop's own event instead."""
    if error is None:
        return "completed", GenerationCompleted(generation=generation_id, finish_reason=finish_reason)
    if isinstance(error, Stopped):
        return "stopped", GenerationStopped(generation=generation_id, by="producer")
    code, message, retryable = _explained(error)
    return "failed", GenerationFailed(generation=generation_id, code=code, message=message, retryable=retryable)


def _explained(error: BaseException) -> tuple[str, str, bool]:
    """Return code, message and retryable. Readers are strangers: of an unknown error they get the type, no more."""
    if isinstance(error, ProviderError):
        return error.code, error.message, error.retryable
    if isinstance(error, StoreError):
        return NOT_WRITTEN
    if not isinstance(error, Exception):
        return "cancelled", "The worker gave up on the answer.", True
    return "internal_error", f"The worker failed with {type(error).__name__}.", False
