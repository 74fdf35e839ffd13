"""Run the web app on a real uvicorn in a thread of the test, and follow its event streams."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.chats.spools import async_spool_for
from support.waiting import eventually
from support.web.sse import SseEvent, SseParser

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.web import Admit, Authorize, admit_all, allow_all, create_app


@dataclass(slots=True)
class SseStream:
    """An open event stream."""

    response: httpx.Response
    reader: SseParser = field(default_factory=SseParser)
    events: list[SseEvent] = field(default_factory=list)
    _pieces: Iterator[bytes] | None = None

    @property
    def seqs(self) -> list[int]:
        """The seqs of the events so far."""
        return [event.seq for event in self.events]

    def read_until(self, seen: Callable[[SseStream], bool]) -> SseStream:
        """Read until `seen(self)`; fail if the stream ends before."""
        while not seen(self):
            assert self.read(), f"the stream ended after {self.events}"
        return self

    def read_to_end(self) -> SseStream:
        """Read to the end."""
        while self.read():
            pass
        return self

    def read(self) -> bool:
        """Read a piece; tell whether there was one."""
        self._pieces = self._pieces or self.response.iter_raw()
        piece = next(self._pieces, None)
        if piece is not None:
            self.events += self.reader.events(piece)
        return piece is not None


@dataclass(frozen=True, slots=True)
class Site:
    """A running app and a client for it."""

    url: str
    client: httpx.Client
    server: uvicorn.Server | None = None

    def shut_down(self) -> None:
        """Ask the server to exit, without waiting for it."""
        assert self.server is not None, "it runs in a process of its own"
        self.server.should_exit = True

    def ask(self, chat: str = "chat", /, **body: Any) -> dict[str, Any]:
        """Enqueue a generation and return the response."""
        reply = self.client.post(f"/v1/chats/{chat}/generations", json={"prompt": "hello", **body})
        assert reply.status_code == 202, reply.text
        made: dict[str, Any] = reply.json()
        return made

    @contextmanager
    def open_stream(self, path: str, method: str = "GET", **options: Any) -> Iterator[SseStream]:
        """Open an event stream; leaving the block closes it."""
        with self.client.stream(method, path, **options) as response:
            if response.status_code != 200:
                response.read()
                raise AssertionError(f"{response.status_code} {response.text}")
            yield SseStream(response)


class BlackHole:
    """ASGI middleware: while it is open, no byte of any reply gets out, and nobody is told."""

    def __init__(self, app: ASGIApp) -> None:
        """Begin closed."""
        self._app = app
        self.open = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def hold(message: Message) -> None:
            while self.open.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.05)
            await send(message)

        await self._app(scope, receive, hold if scope["type"] == "http" else send)


@contextmanager
def serve_app(app: ASGIApp, *, patience: int = 5) -> Iterator[Site]:
    """Run an app until the block is left; the server then waits `patience` seconds for its responses."""
    port = free_port()
    config = uvicorn.Config(
        app, host=LOOPBACK, port=port, log_config=None, ws="none", timeout_graceful_shutdown=patience
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), 30)
        url = f"http://{LOOPBACK}:{port}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Site(url, client, server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def serve_web_app(
    redis_url: str, authorize: Authorize = allow_all, *, admit: Admit | None = admit_all, **settings: object
) -> Iterator[Site]:
    """Run the web app for the Redis at `redis_url`. Users may ask for whatever a test needs."""
    leaving = threading.Event()
    spool = async_spool_for(redis_url, **settings)
    # uvicorn in a thread has no signal handler by which the app could detect it.
    app = create_app(spool, authorize, admit=admit, is_shutting_down=leaving.is_set, closes_spool=True)
    with serve_app(app) as site:
        try:
            yield site
        finally:
            leaving.set()


def problem(reply: httpx.Response) -> dict[str, Any]:
    """Return a response's problem document; fail unless it is one."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    document: dict[str, Any] = json.loads(reply.content)
    assert document["status"] == reply.status_code
    assert document["type"].startswith("urn:chunkspool:problem:")
    assert document["title"]
    assert document["detail"]
    return document
