"""Event streams: a chat is followed, encoded and sent, and its reader is freed the moment the client has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkspool import AsyncSpool, Entry
from chunkspool.errors import CorruptLog, StoreUnavailable
from chunkspool.web.context import Site
from chunkspool.web.dialects import Encoder
from chunkspool.web.problems import Problem, problem_of

HEARTBEAT = b":\n\n"
WAITING_BYTES = 128 * 1024
"""What may wait for a slow client; then its subscription waits as well."""
PAGE = 500
CANCEL_AGAIN = 0.25
"""Seconds after which a task that was cancelled and goes on is cancelled again."""
_HANDED_OVER = "chunkspool.handed_over"


@dataclass(frozen=True, slots=True)
class Followed:
    """What a stream follows. `merged`: what is there already is read as a whole before the first byte is sent."""

    spool: AsyncSpool
    chat_id: str
    after: int
    until: str
    merged: bool = False


class EventStream(Response):
    """What a route returns. It is sent when the frames of router and validation are gone: thousands stay open."""

    def __init__(self, followed: Followed, encoder: Encoder, site: Site) -> None:
        """Nothing is subscribed yet."""
        super().__init__()
        self._follower = Follower(followed, encoder, site)

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Hand over to `HandOver`, which must be among the app's middleware."""
        scope[_HANDED_OVER].append(self._follower)


class HandOver:
    """ASGI middleware, the innermost: it sends an `EventStream` after the app has returned."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is everything inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, _HANDED_OVER: []}
        await self._app(inner, receive, send)
        followers: list[Follower] = inner[_HANDED_OVER]
        del inner
        if followers:
            await followers.pop().run(scope, receive, send)


class Follower:
    """One client's stream: a task reads the chat, one waits for the client to go, and the caller's own sends."""

    def __init__(self, followed: Followed, encoder: Encoder, site: Site) -> None:
        """Nothing runs yet."""
        self._followed = followed
        self._encoder = encoder
        self._site = site
        self._wake = asyncio.Event()
        self._room: asyncio.Event | None = None
        self._problem: Problem | None = None
        self._opened = self._over = self._gone = self._beating = False
        self._sent_at = 0.0

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; when this returns, nothing is held any more."""
        tasks = asyncio.create_task(self._follow()), asyncio.create_task(self._listen(receive))
        self._site.streams.add(self)
        try:
            await self._send(scope, receive, send)
        except OSError:
            pass  # how some servers say that the client has gone
        finally:
            self._site.streams.discard(self)
            await _ended(*tasks)

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
            await self._woken()
        if not self._opened:
            problem = self._problem or problem_of(StoreUnavailable("the server shuts down"))
            await problem.response()(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in self._encoder.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not self._gone:
            over, waiting = self._over, self._taken()
            if waiting:
                await send({"type": "http.response.body", "body": waiting, "more_body": True})
                self._sent_at = time.monotonic()
                if self._room is not None:
                    self._room.set()
            if over:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            await self._woken()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _taken(self) -> bytes:
        waiting = self._encoder.take()
        if not waiting and self._beating:
            waiting = HEARTBEAT
        self._beating = False
        return waiting

    async def _follow(self) -> None:
        try:
            after = await self._replayed() if self._followed.merged else self._followed.after
            if self._encoder.done:
                self._opened = True
            else:
                await self._subscribed(after)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and nobody else could be
            self._problem = problem_of(error)
            self._encoder.add_problem(self._problem.document())
        finally:
            self.end()

    async def _replayed(self) -> int:
        """Add all that is there; return the seq at which it ends."""
        of, after = self._followed, self._followed.after
        while not self._encoder.done:
            try:
                async with self._site.in_time():
                    page = await of.spool.read(of.chat_id, after, PAGE)
            except CorruptLog as error:
                after = self._passed_over(error)
                continue
            for entry in page:
                self._encoder.add(entry)
            after = page[-1].seq if page else after
            if len(page) < PAGE:
                break
        return after

    async def _subscribed(self, after: int) -> None:
        of = self._followed
        async with AsyncExitStack() as stack:
            async with self._site.in_time():
                entries = await stack.enter_async_context(of.spool.subscribe(of.chat_id, after, until=of.until))
            self._opened = True
            self._wake.set()
            while not await self._added(entries):
                pass

    async def _added(self, entries: AsyncIterator[Entry]) -> bool:
        """Add all that comes; return False where an entry could not be decoded: the iterator goes on behind it."""
        encoder, wake = self._encoder, self._wake
        try:
            async for entry in entries:
                encoder.add(entry)
                wake.set()
                if encoder.size > WAITING_BYTES:
                    await self._room_made()
        except CorruptLog as error:
            self._passed_over(error)
            return False
        return True

    def _passed_over(self, error: CorruptLog) -> int:
        """Tell the client which entry it cannot have; return its seq."""
        if error.seq is None:
            raise error
        self._encoder.add_corrupt(error.seq)
        self._wake.set()
        return error.seq

    async def _room_made(self) -> None:
        self._room = self._room or asyncio.Event()
        self._room.clear()
        await self._room.wait()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Again, because Python 3.11 loses a cancellation that meets the end of what asyncio.wait_for waits for, and
        # redis-py sends every command in one.
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
