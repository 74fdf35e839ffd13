"""A stream ends under servers that tell of a client's end in another way, wrongly, or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.chats.logs import CHAT, KEYS
from support.chats.spools import async_spool_for

from chunkspool import AsyncSpool
from chunkspool.web import allow_all, create_app

WHOLE: Message = {"type": "http.request", "body": b"", "more_body": False}
PART: Message = {"type": "http.request", "body": b"x", "more_body": True}
EMPTY: Message = {"type": "http.request", "body": b"", "more_body": True}
GONE: Message = {"type": "http.disconnect"}


class Server:
    """An ASGI server with one request, which does what a test says."""

    def __init__(self) -> None:
        """Begin with a client that has sent all and is there."""
        self.sent: list[Message] = []
        self.opened = asyncio.Event()
        self.is_told = False

    async def receive(self) -> Message:
        """Receive the whole request, then nothing more."""
        if not self.is_told:
            self.is_told = True
            return WHOLE
        await asyncio.Event().wait()
        raise AssertionError("nobody has set it")

    async def send(self, message: Message) -> None:
        """Take what the app sends."""
        self.sent.append(message)
        if message.get("body"):
            self.opened.set()

    @property
    def body(self) -> bytes:
        """All of the response's body."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def has_ended_properly(self) -> bool:
        """Whether the response has its last message."""
        return self.sent[-1].get("more_body") is False


def scope_of(path: str) -> Scope:
    """Return the scope of a GET request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"follow=true",
        "headers": [],
    }


@pytest.fixture
async def spool(redis_url: str) -> AsyncIterator[AsyncSpool]:
    """Provide a spool with a chat in which something is active; it is quick to look after its streams."""
    times = {"heartbeat": 0.1, "stall_timeout": 0.3, "request_timeout": 3, "max_body_bytes": 1024}
    async with async_spool_for(redis_url, **times) as made:
        await made.enqueue(CHAT, "hello")
        yield made


async def run_stream(spool: AsyncSpool, receive: Receive, send: Send, seconds: float = 10) -> None:
    """Run a stream to its end; fail if it does not end."""
    app: ASGIApp = create_app(spool, allow_all, is_shutting_down=lambda: False)
    async with asyncio.timeout(seconds):
        await app(scope_of(f"/v1/chats/{CHAT}/events"), receive, send)


async def assert_nothing_is_left(client: Redis) -> None:
    """Fail unless nobody is subscribed and no task of a stream runs."""
    async with asyncio.timeout(10):
        while client.pubsub_channels(KEYS.live):  # noqa: ASYNC110 - the server tells, no event does
            await asyncio.sleep(0.02)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not names & {"chunkspool-streams", "chunkspool-reauthorize"}
    assert not [task for task in asyncio.all_tasks() if "ClientStream" in repr(task)]


@pytest.mark.parametrize("error", [RuntimeError("gone"), OSError("gone"), ClientDisconnect(), KeyError("scope")])
async def test_receive_raises(spool: AsyncSpool, client: Redis, error: Exception) -> None:
    """Whatever it raises, the stream ends, and the response with it."""
    server = Server()

    async def receive() -> Message:
        if not server.is_told:
            return await server.receive()
        await server.opened.wait()
        raise error

    await run_stream(spool, receive, server.send)
    assert server.has_ended_properly, server.sent
    await assert_nothing_is_left(client)


@pytest.mark.parametrize("error", [OSError("gone"), ConnectionResetError(), BrokenPipeError(), ClientDisconnect()])
async def test_send_raises(spool: AsyncSpool, client: Redis, error: Exception) -> None:
    """A server may tell of a client that has gone by its next write: no error, and nothing is left."""
    server = Server()

    async def send(message: Message) -> None:
        if server.opened.is_set():
            raise error
        await server.send(message)

    await run_stream(spool, server.receive, send)
    await assert_nothing_is_left(client)


async def test_send_raises_something_else(spool: AsyncSpool, client: Redis) -> None:
    """A bug of the server is raised where it belongs, and nothing is left."""
    server = Server()

    async def send(message: Message) -> None:
        if server.opened.is_set():
            raise RuntimeError("a bug")
        await server.send(message)

    with pytest.raises(RuntimeError, match="a bug"):
        await run_stream(spool, server.receive, send)
    await assert_nothing_is_left(client)


async def test_the_client_is_gone_before_the_subscription_is_there(spool: AsyncSpool, client: Redis) -> None:
    """Nothing is sent, and nothing is left; that it is said again and again does no harm."""
    server = Server()

    async def receive() -> Message:
        return GONE

    await run_stream(spool, receive, server.send)
    assert not server.body
    await assert_nothing_is_left(client)


@pytest.mark.parametrize("repeated", [WHOLE, EMPTY], ids=["whole", "empty"])
async def test_receive_repeats_itself_at_once(spool: AsyncSpool, client: Redis, repeated: Message) -> None:
    """The event loop stays free: the stream opens meanwhile, and goes on until the client has gone."""
    server = Server()

    async def receive() -> Message:
        return GONE if server.opened.is_set() else repeated

    await run_stream(spool, receive, server.send)
    assert server.opened.is_set()
    await assert_nothing_is_left(client)


async def test_a_body_that_is_too_large_under_a_stream(spool: AsyncSpool, client: Redis) -> None:
    """The stream ends with a problem, and the response properly."""
    server = Server()

    async def receive() -> Message:
        await server.opened.wait()
        await asyncio.sleep(0)
        return {**PART, "body": b"x" * 500_000}

    await run_stream(spool, receive, server.send)
    assert b'"status":413' in server.body
    assert server.has_ended_properly, server.sent
    await assert_nothing_is_left(client)


async def test_a_body_that_does_not_end_under_a_stream(spool: AsyncSpool, client: Redis) -> None:
    """The same when its time is up, though it stays small."""
    server = Server()

    async def receive() -> Message:
        await server.opened.wait()
        await asyncio.sleep(0.1)
        return PART

    await run_stream(spool, receive, server.send)
    assert b'"status":408' in server.body
    assert server.has_ended_properly, server.sent
    await assert_nothing_is_left(client)


class Transport:
    """A server's connection."""

    def __init__(self) -> None:
        """Begin open."""
        self.closed = asyncio.Event()

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self.closed.is_set()

    def abort(self) -> None:
        """Close it."""
        self.closed.set()


class ServerWithTransport(Server):
    """Its `receive` and `send` are methods of an object that has the connection, as uvicorn's are."""

    def __init__(self) -> None:
        """Begin with an open connection."""
        super().__init__()
        self.transport = Transport()


async def test_a_server_that_tells_nothing_but_whose_connection_is_closed(spool: AsyncSpool, client: Redis) -> None:
    """The connection is found, and looked at."""
    server = ServerWithTransport()
    asyncio.get_running_loop().call_later(0.3, server.transport.abort)
    await run_stream(spool, server.receive, server.send)
    await assert_nothing_is_left(client)


@pytest.mark.parametrize("server", [Server, ServerWithTransport])
async def test_a_client_that_takes_nothing(spool: AsyncSpool, client: Redis, server: type[Server]) -> None:
    """After CHUNKSPOOL_STALL_TIMEOUT it is left, and its connection cut where that is possible."""
    running, began = server(), time.monotonic()

    async def send(message: Message) -> None:
        await running.send(message)
        if message.get("body"):
            await (
                running.transport.closed.wait() if isinstance(running, ServerWithTransport) else asyncio.Event().wait()
            )

    await run_stream(spool, running.receive, send)
    assert 0.3 <= time.monotonic() - began < 5
    assert not isinstance(running, ServerWithTransport) or running.transport.is_closing()
    await assert_nothing_is_left(client)


async def test_a_server_that_cancels_the_app(spool: AsyncSpool, client: Redis) -> None:
    """Some do when a client has gone: nothing is left."""
    server = Server()
    running = asyncio.create_task(run_stream(spool, server.receive, server.send))
    await server.opened.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_nothing_is_left(client)
