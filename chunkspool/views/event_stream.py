"""An event stream: what a client follows of a chat, in its dialect, for a server that takes an iterator of bytes."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from chunkspool.dialects import HEARTBEAT, Encoder
from chunkspool.errors import CorruptLog
from chunkspool.problems import problem_of
from chunkspool.reading.subscription import AsyncSubscription, Subscription
from chunkspool.settings import WebSettings
from chunkspool.spool.aio import AsyncSpool
from chunkspool.spool.sync import Spool
from chunkspool.views.calls import SpoolCall
from chunkspool.views.replay import MAX_WAITING_BYTES, SendWaiting, replay

S = TypeVar("S", Subscription, AsyncSubscription)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to the chat from this cursor on, and return the subscription."""

    after: int | str


@dataclass(frozen=True, slots=True)
class TakeEntries(Generic[S]):
    """Wait for entries, for so many seconds, and add those that are there to the encoder. Return whether more may come.

    It raises what the subscription does.
    """

    entries: S
    seconds: float


Step = SpoolCall[Any] | Subscribe | TakeEntries[Any] | SendWaiting


@dataclass(frozen=True, slots=True)
class EventStream:
    """A response that streams: its `headers`, and its body, by `open` or `open_async`, once.

    `until` is what `Spool.subscribe` takes. `merged`: what exists of the generation `until` is sent as few events.
    """

    chat_id: str
    after: int | str
    until: str
    encoder: Encoder
    merged: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, the content type among them."""
        return self.encoder.headers

    def open(self, spool: Spool) -> Generator[bytes]:
        """Yield the body, for a server with threads (WSGI). Close it if it is not read to its end.

        Such a server notices that a client has gone only by writing to it. So something is yielded after each
        `CHUNKSPOOL_HEARTBEAT`, and what the reader holds is free then. After `CHUNKSPOOL_STREAM_DEADLINE` the stream
        ends, and its client resumes it. Nothing is raised: whatever is wrong, the client is told.
        """
        steps = self._steps(spool.settings.web)
        answer = partial(next, steps)
        with ExitStack() as held:
            while (step := _step_of(answer)) is not None:
                if isinstance(step, SendWaiting):
                    if piece := self._take(step):
                        yield piece
                    answer = partial(next, steps)
                    continue
                try:
                    answer = partial(steps.send, self._perform(step, spool, held))
                except Exception as error:  # noqa: BLE001 - the steps tell the client
                    answer = partial(steps.throw, error)

    async def open_async(self, spool: AsyncSpool) -> AsyncGenerator[bytes]:
        """Yield the body, for a server with an event loop (ASGI). See `open`."""
        steps = self._steps(spool.settings.web)
        answer = partial(next, steps)
        async with AsyncExitStack() as held:
            while (step := _step_of(answer)) is not None:
                if isinstance(step, SendWaiting):
                    if piece := self._take(step):
                        yield piece
                    answer = partial(next, steps)
                    continue
                try:
                    answer = partial(steps.send, await self._perform_async(step, spool, held))
                except Exception as error:  # noqa: BLE001 - the steps tell the client
                    answer = partial(steps.throw, error)

    def _steps(self, settings: WebSettings) -> Generator[Step, Any, None]:
        """Yield what is to be done, one after the other."""
        # Not for all in one moment.
        ends_at = time.monotonic() + settings.stream_deadline * (900 + secrets.randbelow(100)) / 1000
        try:
            yield SendWaiting(beats=True)  # the headers leave with it, and the client knows that it is connected
            after = self.after
            if self.merged:
                after = yield from replay(self.encoder, self.chat_id, after, self.until)
                yield SendWaiting()
            if not self.encoder.done:
                yield from self._follow(after, settings.heartbeat, ends_at)
        except Exception as error:  # noqa: BLE001 - only the client can be told
            self.encoder.add_problem(problem_of(error).document())
        self.encoder.close()
        yield SendWaiting()

    def _follow(self, after: int | str, heartbeat: float, ends_at: float) -> Generator[Step, Any, None]:
        entries = yield Subscribe(after)
        more = True
        while more and not self.encoder.done and time.monotonic() < ends_at:
            try:
                more = yield TakeEntries(entries, heartbeat)
            except CorruptLog as error:
                if error.seq is None:
                    raise
                self.encoder.add_corrupt(error.seq)  # the subscription goes on behind it
            yield SendWaiting(beats=True)

    def _take(self, step: SendWaiting) -> bytes:
        return self.encoder.take() or (HEARTBEAT if step.beats else b"")

    def _perform(self, step: Step, spool: Spool, held: ExitStack) -> object:
        match step:
            case Subscribe():
                return held.enter_context(spool.subscribe(self.chat_id, step.after, until=self.until))
            case TakeEntries():
                return self._take_entries(step.entries, step.seconds)
            case SpoolCall():
                return step.make(spool)
        raise AssertionError(step)

    async def _perform_async(self, step: Step, spool: AsyncSpool, held: AsyncExitStack) -> object:
        match step:
            case Subscribe():
                return await held.enter_async_context(spool.subscribe(self.chat_id, step.after, until=self.until))
            case TakeEntries():
                return await self._take_entries_async(step.entries, step.seconds)
            case SpoolCall():
                return await step.make(spool)
        raise AssertionError(step)

    def _take_entries(self, entries: Subscription, seconds: float) -> bool:
        if not entries.wait(seconds):
            return True
        for _ in range(max(1, entries.ready)):
            entry = next(entries, None)
            if entry is None:
                return False
            self.encoder.add(entry)
            if self.encoder.size > MAX_WAITING_BYTES:
                break
        return True

    async def _take_entries_async(self, entries: AsyncSubscription, seconds: float) -> bool:
        if not await entries.wait(seconds):
            return True
        for _ in range(max(1, entries.ready)):
            entry = await anext(entries, None)
            if entry is None:
                return False
            self.encoder.add(entry)
            if self.encoder.size > MAX_WAITING_BYTES:
                break
        return True


def _step_of(answer: Any) -> Step | None:
    """Return the next step; None after the last."""
    try:
        step: Step = answer()
    except StopIteration:
        return None
    return step
