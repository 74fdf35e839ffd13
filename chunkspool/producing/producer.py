"""The producer: what a model's loop calls to say something in one claimed generation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, assert_never

from pydantic import ValidationError
from pydantic_core import from_json

from chunkspool.errors import (
    BufferFull,
    EventTooLarge,
    Fenced,
    Interrupted,
    InvalidInput,
    LimitExceeded,
    ProviderError,
    Released,
    SpoolClosed,
    Stopped,
    StoreError,
    shown,
)
from chunkspool.events import (
    DataEvent,
    Ending,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    Known,
    ToolCallEvent,
    ToolResultEvent,
    UsageEvent,
    encode,
)
from chunkspool.observer import TokensUsed
from chunkspool.producing.buffer import Kind
from chunkspool.producing.flusher import NOT_WRITTEN, Flusher
from chunkspool.producing.outbox import Outbox
from chunkspool.producing.tally import Tally
from chunkspool.provider import (
    Delta,
    Finish,
    ModelRequest,
    Reasoning,
    SignOfLife,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from chunkspool.request import Claim
from chunkspool.settings import Settings
from chunkspool.states import EndState
from chunkspool.store.log_size import LogSize

_Event = TypeVar("_Event", bound=Known)

MAX_FINISH_REASON = 200
"""Characters of a finish reason: it is an event that every reader gets."""
CHAT_FULL = ("chat_full", "The chat is full: begin another one.", False)
"""Code, message and retryable of a generation that fails because its chat's log may not grow any more."""
_INTERNAL_ERROR = ("internal_error", "The worker failed with {}.", False)


class Producer:
    """Says what one attempt of a generation has to say. Make one with `Spool.produce`, in a `with` block.

    The methods never wait for Redis: they fill a buffer that the process's flusher empties. Each of them raises
    `Stopped` after a stop, `Fenced` when a newer attempt has the generation or the block was left, `Released` when
    this process is about to end, `LimitExceeded` when the chat's log has reached `chat_bytes`, and `StoreError` when
    Redis was unreachable for `write_timeout` seconds. When the
    buffer is full, a sync block waits for room, at most `write_timeout` seconds (`BufferFull`); an async one must
    ``await out.drain()`` between writes, and gets `BufferFull` at once if it does not.

    Leaving the block writes exactly one ending: `generation.completed`, `generation.failed` after an exception (it
    propagates), or `generation.stopped` after a stop: as a cancel scope does with its own cancellation, the block keeps
    `Stopped` to itself. After `Released` it writes none, but frees the generation for the next attempt. In an async
    block a stop, a fence, a release and a lost Redis cancel the task inside the block, so that it ends even while the
    model is silent.
    """

    def __init__(self, outbox: Outbox, flusher: Flusher, settings: Settings, claim: Claim) -> None:
        """Take over the outbox of an attempt that was just claimed."""
        self.request: ModelRequest = claim.request
        """What the model is asked."""
        self.state = "running"
        """The generation's state; "completed", "stopped" or "failed" after the block."""
        self.tally = Tally()
        """How much this attempt has said."""
        self._outbox = outbox
        self._flusher = flusher
        self._settings = settings
        self._finish_reason = "stop"
        self._usage = Usage(0, 0)
        self._restarts = claim.restarts
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelling = 0
        self._cancelled = False
        self._leaving = False

    @property
    def generation_id(self) -> str:
        """The generation's id."""
        return self._outbox.generation_id

    @property
    def chat_id(self) -> str:
        """The chat's id."""
        return self._outbox.keys.chat_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._outbox.attempt

    @property
    def log_size(self) -> LogSize | None:
        """What the chat's log took when the ending was written; None before."""
        return self._outbox.log_size

    @property
    def outcome_wanted(self) -> bool:
        """Whether somebody is to be told how the generation has ended; False before."""
        return self._outbox.outcome_wanted

    def text(self, text: str) -> None:
        """Say a piece of the answer."""
        self._write_text("text", text)

    def reasoning(self, text: str) -> None:
        """Say a piece of the model's thinking."""
        self._write_text("reasoning", text)

    def tool_call(self, id: str, name: str, arguments: str) -> None:  # noqa: A002 - the event's own field
        """Say that the model calls a tool; `arguments` is JSON text as the model wrote it."""
        self._write_event(ToolCallEvent, id=id, name=name, arguments=arguments)

    def tool_result(self, id: str, output: Any) -> None:  # noqa: A002 - the event's own field
        """Say what a tool gave back: any JSON value."""
        self._write_event(ToolResultEvent, id=id, output=output)

    def data(self, name: str, value: Any) -> None:
        """Say something of the app's own: any JSON value."""
        self._write_event(DataEvent, name=name, value=value)

    def usage(self, input_tokens: int, output_tokens: int) -> None:
        """Say how many tokens are to be paid."""
        self._write_usage(Usage(input_tokens, output_tokens))

    def finish(self, reason: str) -> None:
        """Set the `finish_reason` that `generation.completed` will carry; "stop" unless set."""
        if not isinstance(reason, str) or not 0 < len(reason) <= MAX_FINISH_REASON:
            raise InvalidInput(f"finish takes a str of 1 to {MAX_FINISH_REASON} characters, not {shown(reason)}")
        self._finish_reason = reason

    def write(self, delta: Delta | SignOfLife) -> None:
        """Say what a provider has yielded. A sign of life says nothing."""
        match delta:
            case Text():
                self.text(delta.text)
            case Reasoning():
                self.reasoning(delta.text)
            case ToolCall():
                self.tool_call(delta.id, delta.name, delta.arguments)
            case ToolResult():
                self.tool_result(delta.id, delta.output)
            case Usage():
                self._write_usage(delta)
            case Finish():
                self.finish(delta.reason)
            case SignOfLife():
                pass
            case _:
                assert_never(delta)

    def restart(self) -> None:
        """Tell readers that what this generation has said so far is void, and restart it, without a `prefix`."""
        self.request = replace(self.request, prefix="")
        model = self.request.model or self._settings.provider.model
        self._write_event(GenerationStarted, attempt=self.attempt, model=model)

    async def drain(self) -> None:
        """Wait until the buffer has room. Raises what the other methods raise."""
        if self._outbox.buffer.is_full:
            await asyncio.wrap_future(self._outbox.buffer.wait_for_room())
        self._check()

    def __enter__(self) -> Self:
        """Begin to write."""
        self._open()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Write the ending and wait until Redis has it."""
        self._leaving = True
        self._end(error)
        return self._settle(error, self._outbox.ended.exception())

    async def __aenter__(self) -> Self:
        """Begin to write, and to cancel this task when the generation is no longer ours."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._open()
        self._outbox.watch(self._on_interrupt)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Write the ending and wait until Redis has it."""
        self._leaving = True
        ours = self._uncancel() and isinstance(error, asyncio.CancelledError)
        cause = self._outbox.interruption if ours else error
        self._end(cause)
        await self._wait_for_end()
        absorbed = self._settle(cause, self._outbox.ended.exception())
        if ours and cause is not None and not absorbed:
            raise cause
        return absorbed

    def _open(self) -> None:
        self._flusher.open(self._outbox)
        if self._restarts:
            # Whoever is interrupted already hears of it inside the block, which then can be left in order.
            with suppress(Interrupted):
                self.restart()

    async def _wait_for_end(self) -> None:
        ended = asyncio.wrap_future(self._outbox.ended)
        # The lane's error is raised from the lane. This copy's is only taken, else asyncio logs it as one nobody saw.
        ended.add_done_callback(asyncio.Future.exception)
        await asyncio.wait({ended})

    def _on_interrupt(self) -> None:
        """Cancel the task from whichever thread learned of it."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and the task went with it
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # Once the block is being left there is no model call to close, and the cancellation would hit the ending.
        if self._task is not None and not self._leaving:
            self._cancelled = True
            self._task.cancel()

    def _uncancel(self) -> bool:
        """Take our own cancellation back; tell whether it was the only one (as asyncio.timeout does)."""
        return self._cancelled and self._task is not None and self._task.uncancel() <= self._cancelling

    def _check(self) -> None:
        if self._outbox.interruption is not None:
            raise self._outbox.interruption
        if self._leaving:
            raise Fenced(f"generation {self.generation_id}: its block was left, and nothing can follow its ending")

    def _write_text(self, kind: Kind, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidInput(f"{kind} takes a str, not {type(text).__name__}")
        if text:
            self._make_room()
            self.tally.add(text)
            if self._outbox.buffer.add_text(kind, text):
                self._flusher.mark(self._outbox)

    def _write_event(self, kind: type[_Event], **fields: Any) -> _Event:
        """Write an event, and return it with its fields as they were understood."""
        try:
            event = kind(generation_id=self.generation_id, **fields)
            encoded = encode(event)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or kind.__name__
            raise InvalidInput(f"{where}: {first['msg']}") from None
        limit = self._settings.log.max_event_bytes
        if len(encoded) > limit:
            raise EventTooLarge(len(encoded), limit)
        try:
            from_json(encoded)
        except ValueError as error:
            # Better now than for every reader: writing JSON takes depths and numbers that reading it does not.
            raise InvalidInput(f"the event is nested too deep, or has too large a number: {error}") from None
        self._make_room()
        if self._outbox.buffer.add_event(encoded):
            self._flusher.mark(self._outbox)
        return event

    def _write_usage(self, said: Usage) -> None:
        # An event takes whatever stands for a number, such as "5"; from here on it is one.
        event = self._write_event(UsageEvent, input_tokens=said.input_tokens, output_tokens=said.output_tokens)
        cached, reasoning = _count_or_zero(said.cached_tokens), _count_or_zero(said.reasoning_tokens)
        self._count_tokens(Usage(event.input_tokens, event.output_tokens, cached, reasoning))

    def _count_tokens(self, so_far: Usage) -> None:
        """Tell by how much a provider's count has grown: each of its counts is the sum so far."""
        before, self._usage = self._usage, so_far
        self.tally.output_tokens = self._outbox.pace.output_tokens = so_far.output_tokens
        more = TokensUsed(
            input=max(0, so_far.input_tokens - before.input_tokens),
            output=max(0, so_far.output_tokens - before.output_tokens),
            reasoning=max(0, so_far.reasoning_tokens - before.reasoning_tokens),
            cached=max(0, so_far.cached_tokens - before.cached_tokens),
        )
        self._flusher.observer.observe(more)

    def _make_room(self) -> None:
        self._check()
        if not self._outbox.buffer.is_full:
            return
        if self._task is not None:
            raise BufferFull("the buffer is full because Redis does not keep up: await out.drain() between writes")
        try:
            self._outbox.buffer.wait_for_room().result(self._settings.log.write_timeout)
        except TimeoutError:
            # Where Redis cannot be reached, the flusher is about to say so as well: whoever is first, it is one error.
            if self._outbox.trouble is not None:
                raise self._outbox.trouble from None
            waited = self._settings.log.write_timeout
            raise BufferFull(f"the buffer was full for {waited:g} seconds: Redis does not keep up") from None
        self._check()

    def _end(self, error: BaseException | None) -> None:
        """Give the ending to the flusher, unless nothing of this attempt can be written any more."""
        if self._outbox.ended.done():
            return
        if isinstance(error, Released):
            self._outbox.buffer.end_without_ending(counts=error.counts)
        else:
            state, code, encoded = _encode_ending(self.generation_id, error, self._finish_reason)
            self._outbox.pace.code = code
            self._outbox.buffer.end(state, encoded)
        self._flusher.mark(self._outbox)

    def _settle(self, cause: BaseException | None, failure: BaseException | None) -> bool:
        """Note how it ended; raise `failure`, for which no ending could be written; tell whether to keep `cause`."""
        ended = failure is None or isinstance(failure, Stopped)
        # What was to be released was stopped or ended in the same moment: there is nothing left to tell.
        absorbed = isinstance(cause, Stopped) or (ended and isinstance(cause, Released))
        if failure is None:
            self.state = self._outbox.ended.result()
            if self.state == "failed" and cause is None and self._outbox.interruption is not None:
                raise self._outbox.interruption
        elif isinstance(failure, Stopped):
            self.state = "stopped"
        elif cause is None or absorbed:
            raise failure
        elif cause is not failure:
            cause.add_note(f"The ending was not written: {failure}")
        return absorbed


def _count_or_zero(count: object) -> int:
    """Return a count that is for metrics only: a provider of somebody's own may give anything."""
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else 0


def _encode_ending(
    generation_id: str, error: BaseException | None, finish_reason: str
) -> tuple[EndState, str | None, bytes]:
    """Return state, code and event, whatever left the block: without an ending the generation would be immortal."""
    try:
        state, event = _ending(generation_id, error, finish_reason)
        return state, event.code if isinstance(event, GenerationFailed) else None, encode(event)
    except ValueError:  # an exception of somebody else's, with fields that no event can have
        code, message, retryable = _INTERNAL_ERROR
        failed = GenerationFailed(
            generation_id=generation_id,
            code=code,
            message=message.format(type(error).__name__),
            retryable=retryable,
        )
        return "failed", code, encode(failed)


def _ending(generation_id: str, error: BaseException | None, finish_reason: str) -> tuple[EndState, Ending]:
    """Return the ending for what left the block. After a stop, the script writes the stop's own event instead."""
    if error is None:
        return "completed", GenerationCompleted(generation_id=generation_id, finish_reason=finish_reason)
    if isinstance(error, Stopped):
        return "stopped", GenerationStopped(generation_id=generation_id, by="producer")
    code, message, retryable = _explain(error)
    return "failed", GenerationFailed(generation_id=generation_id, code=code, message=message, retryable=retryable)


def _explain(error: BaseException) -> tuple[str, str, bool]:
    """Return code, message and retryable. Readers are strangers: of an unknown error they get the type, no more."""
    if isinstance(error, ProviderError):
        return error.code, error.message, error.retryable
    if isinstance(error, StoreError | BufferFull | SpoolClosed):
        return NOT_WRITTEN
    if not isinstance(error, Exception):
        return "cancelled", "The worker gave up on the answer.", True
    if isinstance(error, LimitExceeded):
        return CHAT_FULL
    if isinstance(error, EventTooLarge):
        return "event_too_large", f"An event of the answer has {error.size} bytes; the limit is {error.limit}.", False
    code, message, retryable = _INTERNAL_ERROR
    return code, message.format(type(error).__name__), retryable
