"""Event streams: follow a chat, encode it and send it to one client, and free the reader when the client has gone."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from chunkspool import AsyncSpool, Entry
from chunkspool.dialects import HEARTBEAT
from chunkspool.effects import drive_async
from chunkspool.errors import CorruptLog, ServerShuttingDown
from chunkspool.problems import Problem
from chunkspool.views.event_stream import EventStream
from chunkspool.views.replay import MAX_WAITING_BYTES, ReplayStep, SendWaiting, replay
from chunkspool.web.access import grant_of
from chunkspool.web.gate import RequestGate
from chunkspool.web.middleware.deferred_stream import defer
from chunkspool.web.problems import problem_of, response_to
from chunkspool.web.streaming.open_streams import OpenStreams
from chunkspool.web.streaming.permit import StreamPermit
from chunkspool.web.streaming.server_connection import ServerConnection, receive_disconnect

_LOG = logging.getLogger(__name__)
CANCEL_RETRY = 0.25
"""Seconds until a task that did not end when it was cancelled is cancelled again."""


class EventStreamResponse(Response):
    """The response that a route returns. `DeferredStream` sends it after router and validation have returned."""

    def __init__(self, spool: AsyncSpool, stream: EventStream, gate: RequestGate, streams: OpenStreams) -> None:
        """Nothing is subscribed yet."""
        super().__init__()
        self._stream = ClientStream(spool, stream, gate, streams)
        self._reauthorize = streams.settings.reauthorize

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Leave the sending to the middleware."""
        if (grant := grant_of(scope)) is not None:
            self._stream.permit = StreamPermit(grant, scope.get("path_params", {}), self._reauthorize)
        defer(scope, self._stream)


class ClientStream:
    """One client's stream. It uses three tasks, because each of them waits for something else.

    One task reads the chat: a subscription belongs to one task, and its iterator blocks until the next event. One task
    waits for `http.disconnect`: during silence nothing is sent, so no failing send would reveal that the client has
    gone, and its reader would stay subscribed. The server's own task sends, and blocks while the client's socket is
    full. They share the encoder: whatever is added during one send goes out, merged, with the next.
    """

    def __init__(self, spool: AsyncSpool, stream: EventStream, gate: RequestGate, streams: OpenStreams) -> None:
        """Nothing runs yet."""
        self._spool = spool
        self._stream = stream
        self._encoder = stream.encoder
        self._gate = gate
        self._streams = streams
        # Wakes the sending task after any change below; it then looks at all of them.
        self._wake = asyncio.Event()
        # Made when it is first needed: most clients are never slow, and thousands of streams may be open.
        self._room: asyncio.Event | None = None
        self._problem: Problem | None = None
        self.permit: StreamPermit | None = None
        self._connection = ServerConnection(None)
        self._patience: asyncio.Timeout | None = None
        self._is_open = self._is_ending = self._client_gone = self._heartbeat_due = self._is_cut = False
        self._sent_at = 0.0
        self._sending_since: float | None = None
        # A server that tells nothing of a client that has gone is left in this way. Not for all in one moment.
        self._ends_at = time.monotonic() + streams.settings.stream_deadline * (900 + secrets.randbelow(100)) / 1000

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it. When this returns, the stream holds no task, no subscription and no connection."""
        self._connection = ServerConnection.find(receive)
        tasks = asyncio.create_task(self._follow()), asyncio.create_task(self._watch_for_disconnect(receive))
        self._streams.add(self)
        if self.permit is not None:
            self.permit.start(scope, self._end_with)
        try:
            async with asyncio.timeout(None) as self._patience:
                await self._send_all(scope, receive, self._timed(send))
        except (OSError, ClientDisconnect):
            pass  # so some servers tell of a client that has gone; and `_drop` lets the time run out
        except RuntimeError:  # uvloop's word for it
            if not self._connection.is_closed():
                raise
        finally:
            if self.permit is not None:
                self.permit.end()
            self._streams.discard(self)
            await _cancel(*tasks)

    def look_after(self, now: float) -> None:
        """Do what is due at `now` (monotonic clock): a heartbeat, a question to the hook, or the end."""
        settings = self._streams.settings
        if self._sending_since is not None and now - self._sending_since > settings.stall_timeout:
            self._drop()
        elif self._connection.is_closed() or now > self._ends_at:
            self.end()
        elif self.permit is not None:
            self.permit.ask_if_due(now)
        if self._is_open and self._sent_at < now - settings.heartbeat:
            self._heartbeat_due = True
            self._wake.set()

    def end(self) -> None:
        """End the stream after sending what is waiting."""
        self._is_ending = True
        self._wake.set()

    def _drop(self) -> None:
        """Leave a client that takes nothing: no end can be sent to it."""
        # A connection that is cut lets the send return, and the server knows what happened. If it does not return
        # (or the connection is not known), it is cancelled.
        if (self._is_cut or not self._connection.cut()) and self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())
        self._is_cut = True

    def _timed(self, send: Send) -> Send:
        """Return `send`, noting since when it waits for the client."""

        async def send_and_note(message: Message) -> None:
            self._sending_since = time.monotonic()
            await send(message)
            self._sending_since = None

        return send_and_note

    def _end_with(self, error: Exception) -> None:
        """End the stream with the problem that `error` is for the client, unless it ends already."""
        if self._is_ending:
            return
        self._problem = problem_of(error)
        self._encoder.add_problem(self._problem.document())
        self.end()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The status line waits for the subscription: until then, an error can still be an HTTP status of its own.
        while not (self._is_open or self._is_ending or self._client_gone):
            await self._wait_for_change()
        if self._client_gone:
            return
        if not self._is_open:
            problem = self._problem or problem_of(ServerShuttingDown())
            await response_to(problem)(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in self._encoder.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not self._client_gone:
            # `_is_ending` is read before the send: if it is set during the send, the events added by then need another.
            is_last = self._is_ending
            if is_last:
                # Whatever the reason is, a shutdown or an ending that cannot be decoded: only the dialect knows whether
                # the client would take this for the whole answer.
                self._encoder.close()
            waiting = self._take()
            if waiting:
                await send({"type": "http.response.body", "body": waiting, "more_body": True})
                self._sent_at = time.monotonic()
                # Only now, not when the bytes were taken: otherwise a blocked send would double what a client holds.
                if self._room is not None:
                    self._room.set()
            if is_last:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _take(self) -> bytes:
        waiting = self._encoder.take()
        if not waiting and self._heartbeat_due:
            waiting = HEARTBEAT
        self._heartbeat_due = False
        return waiting

    async def _follow(self) -> None:
        spool, chat_id = self._spool, self._stream.chat_id
        owner = self.permit.owner if self.permit is not None else None
        try:
            await self._streams.count.open(spool, chat_id, owner)
        except Exception as error:  # noqa: BLE001 - as below
            self._end_with(error)
            return
        try:
            after = await self._replay() if self._stream.merged else self._stream.after
            if self._encoder.done:
                self._is_open = True
            else:
                await self._subscribe(after)
        except Exception as error:  # noqa: BLE001 - nobody awaits this task's result; only the client can be told
            self._end_with(error)
        finally:
            self._streams.count.close(spool, chat_id, owner)
            self.end()

    async def _replay(self) -> int | str:
        """Add all existing entries of the generation, merged; return the cursor of the last one."""
        stream, within = self._stream, self._gate.reading_seconds
        steps = replay(self._encoder, stream.chat_id, stream.after, stream.until, within=within)
        return await drive_async(steps, self._perform)

    async def _perform(self, step: ReplayStep) -> object:
        if isinstance(step, SendWaiting):
            self._is_open = True
            self._wake.set()
            await self._wait_for_room()
            return None
        gate = self._gate
        whole = gate.enter_to_read(self._spool.settings.log.tenant, self._stream.chat_id)
        async with whole if step.reads_whole else gate.enter():
            return await step.make(self._spool)

    async def _subscribe(self, after: int | str) -> None:
        stream = self._stream
        async with AsyncExitStack() as stack:
            # The gate limits how many streams start at once; an open one must not keep its turn.
            async with self._gate.enter():
                entries = await stack.enter_async_context(
                    self._spool.subscribe(stream.chat_id, after, until=stream.until)
                )
            self._is_open = True
            self._wake.set()
            while not await self._add_all(entries):
                pass

    async def _add_all(self, entries: AsyncIterator[Entry]) -> bool:
        """Add entries until the iterator ends. Return False at a corrupt one: the iterator then continues behind it."""
        encoder, wake = self._encoder, self._wake
        try:
            async for entry in entries:
                if self._problem is not None:
                    return True  # nothing comes after the problem that ends the stream
                encoder.add(entry)
                wake.set()
                if encoder.size > MAX_WAITING_BYTES:
                    await self._wait_for_room()
        except CorruptLog as error:
            self._skip_corrupt(error)
            return False
        return True

    def _skip_corrupt(self, error: CorruptLog) -> int:
        """Tell the client which entry is unreadable; return its seq. Re-raises if the whole log is unreadable."""
        if error.seq is None:
            raise error
        self._encoder.add_corrupt(error.seq)
        self._wake.set()
        return error.seq

    async def _wait_for_room(self) -> None:
        """Wait until the client has taken what was sent.

        Back-pressure ends here. A subscription that is not read keeps a bounded number of live events and reads the
        rest from the log later, so a slow client delays neither the producer nor other readers.
        """
        self._room = self._room or asyncio.Event()
        self._room.clear()
        await self._room.wait()

    async def _watch_for_disconnect(self, receive: Receive) -> None:
        """Wait until the client has gone. Whatever else ends the waiting ends the stream, too."""
        try:
            await receive_disconnect(receive)
        except HTTPException as error:  # the request's body is too large, or does not end
            self._end_with(error)
        except Exception as error:  # noqa: BLE001 - each server has its own
            _LOG.debug("the server ended a request: %r", error)
            self.end()
        else:
            self._client_gone = True
            self._wake.set()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Once is not enough: Python 3.11 loses a cancellation that arrives just when the awaitable inside
        # asyncio.wait_for completes, and redis-py sends every command in a wait_for. The task would then wait for the
        # next event, possibly for ever, and keep its subscription.
        _, pending = await asyncio.wait(pending, timeout=CANCEL_RETRY)
