"""Event streams: a chat is followed, encoded and sent, and its reader is freed the moment the client has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chunkspool import AsyncSpool, Entry
from chunkspool.errors import CorruptLog, ServerShuttingDown
from chunkspool.web.dialects import Encoder
from chunkspool.web.gate import RequestGate
from chunkspool.web.middleware.deferred_stream import defer
from chunkspool.web.problems import Problem, problem_of
from chunkspool.web.streaming.open_streams import OpenStreams

HEARTBEAT = b":\n\n"
WAITING_BYTES = 128 * 1024
"""What may wait for a slow client; then its subscription waits as well."""
PAGE = 500
CANCEL_AGAIN = 0.25
"""Seconds after which a task that was cancelled and goes on is cancelled again."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a stream follows. `merged`: what is there already is read as a whole before the first byte is sent."""

    spool: AsyncSpool
    chat_id: str
    after: int | str
    until: str
    merged: bool = False


class EventStream(Response):
    """What a route returns. It is sent when the frames of router and validation are gone (`DeferredStream`)."""

    def __init__(self, followed: Followed, encoder: Encoder, gate: RequestGate, streams: OpenStreams) -> None:
        """Nothing is subscribed yet."""
        super().__init__()
        self._stream = ClientStream(followed, encoder, gate, streams)

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Leave the sending to the middleware."""
        defer(scope, self._stream)


class ClientStream:
    """One client's stream: a task reads the chat, one waits for the client to go, and the caller's own sends."""

    def __init__(self, followed: Followed, encoder: Encoder, gate: RequestGate, streams: OpenStreams) -> None:
        """Nothing runs yet."""
        self._followed = followed
        self._encoder = encoder
        self._gate = gate
        self._streams = streams
        self._wake = asyncio.Event()
        self._room: asyncio.Event | None = None
        self._problem: Problem | None = None
        self._opened = self._over = self._gone = self._beating = False
        self._sent_at = 0.0

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; when this returns, nothing is held any more."""
        tasks = asyncio.create_task(self._follow()), asyncio.create_task(self._listen(receive))
        self._streams.add(self)
        try:
            await self._send(scope, receive, send)
        except OSError:
            pass  # how some servers say that the client has gone
        finally:
            self._streams.discard(self)
            await _cancel(*tasks)

    def beat(self, quiet_since: float) -> None:
        """Send a comment if nothing was sent since `quiet_since`."""
        if self._opened and self._sent_at < quiet_since:
            self._beating = True
            self._wake.set()

    def end(self) -> None:
        """End after what is waiting."""
        self._over = True
        self._wake.set()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not (self._opened or self._over or self._gone):
            await self._wait()
        if not self._opened:
            problem = self._problem or problem_of(ServerShuttingDown())
            await problem.response()(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in self._encoder.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not self._gone:
            over, waiting = self._over, self._take()
            if waiting:
                await send({"type": "http.response.body", "body": waiting, "more_body": True})
                self._sent_at = time.monotonic()
                if self._room is not None:
                    self._room.set()
            if over:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            await self._wait()

    async def _wait(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _take(self) -> bytes:
        waiting = self._encoder.take()
        if not waiting and self._beating:
            waiting = HEARTBEAT
        self._beating = False
        return waiting

    async def _follow(self) -> None:
        try:
            after = await self._replay() if self._followed.merged else self._followed.after
            if self._encoder.done:
                self._opened = True
            else:
                await self._subscribe(after)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and nobody else could be
            self._problem = problem_of(error)
            self._encoder.add_problem(self._problem.document())
        finally:
            self.end()

    async def _replay(self) -> int | str:
        """Add all that is there; return the seq at which it ends."""
        of, after = self._followed, self._followed.after
        while not self._encoder.done:
            try:
                async with self._gate.enter():
                    page = await of.spool.read(of.chat_id, after, PAGE)
            except CorruptLog as error:
                after = self._pass_over(error)
                continue
            for entry in page:
                self._encoder.add(entry)
            after = page[-1].seq if page else after
            if len(page) < PAGE:
                break
        return after

    async def _subscribe(self, after: int | str) -> None:
        of = self._followed
        async with AsyncExitStack() as stack:
            async with self._gate.enter():
                entries = await stack.enter_async_context(of.spool.subscribe(of.chat_id, after, until=of.until))
            self._opened = True
            self._wake.set()
            while not await self._add_all(entries):
                pass

    async def _add_all(self, entries: AsyncIterator[Entry]) -> bool:
        """Add all that comes; return False where an entry could not be decoded: the iterator goes on behind it."""
        encoder, wake = self._encoder, self._wake
        try:
            async for entry in entries:
                encoder.add(entry)
                wake.set()
                if encoder.size > WAITING_BYTES:
                    await self._wait_for_room()
        except CorruptLog as error:
            self._pass_over(error)
            return False
        return True

    def _pass_over(self, error: CorruptLog) -> int:
        """Tell the client which entry it cannot have; return its seq."""
        if error.seq is None:
            raise error
        self._encoder.add_corrupt(error.seq)
        self._wake.set()
        return error.seq

    async def _wait_for_room(self) -> None:
        self._room = self._room or asyncio.Event()
        self._room.clear()
        await self._room.wait()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Again, because Python 3.11 loses a cancellation that meets the end of what asyncio.wait_for waits for, and
        # redis-py sends every command in one.
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
