"""Every URL that Settings accepts works for the log, for the sender and for the worker, and means the same to them."""

from __future__ import annotations

import runpy
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import kombu.transport
import pytest
from celery import Celery
from kombu.transport import TRANSPORT_ALIASES
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, spool_for
from support.missing import skip_missing
from support.servers.redis_server import PrivateServer, ServerMissing
from support.servers.sentinels import watched_servers

from chunkspool import Generation
from chunkspool.demo.ports import LOOPBACK
from chunkspool.store.keys import ChatKeys
from chunkspool.worker import transport

CONFIGURATION = Path(__file__).parents[3] / "celeryconfig.py"
PASSWORD, ENCODED = "p/a@s:s #?%", "p%2Fa%40s%3As%20%23%3F%25"
QUEUE = "answers"


@pytest.fixture
def server(redis_server: PrivateServer, tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server with a password of awkward characters that can be reached by IPv4, IPv6 and a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="cs") as short:  # a socket's path has 107 characters at most
        options = ("--requirepass", PASSWORD, "--unixsocket", f"{short}/redis 1.sock", "--bind", LOOPBACK, "-::1")
        running = PrivateServer(redis_server.binary, tmp_path, options, PASSWORD)
        running.start()
        yield running
        running.kill()


def socket_of(server: PrivateServer) -> str:
    """Return the path of the server's Unix socket, as it stands in a URL."""
    return server.options[3].replace(" ", "%20")


URLS: dict[str, tuple[Callable[[PrivateServer], str], int]] = {
    "database in the path": (lambda server: f"redis://:{ENCODED}@{LOOPBACK}:{server.port}/3", 3),
    "database in the query": (lambda server: f"redis://:{ENCODED}@{LOOPBACK}:{server.port}?db=3", 3),
    "password in the query": (lambda server: f"redis://{LOOPBACK}:{server.port}?password={ENCODED}", 0),
    "a user": (lambda server: f"redis://default:{ENCODED}@localhost:{server.port}", 0),
    "a name": (lambda server: f"redis://:{ENCODED}@{LOOPBACK}:{server.port}?client_name=pod-7", 0),
    "a Unix socket": (lambda server: f"unix://:{ENCODED}@{socket_of(server)}", 0),
    "a Unix socket's database": (lambda server: f"unix://{socket_of(server)}?db=5&password={ENCODED}", 5),
    "Celery's Unix socket": (lambda server: f"redis+socket://:{ENCODED}@{socket_of(server)}?virtual_host=5", 5),
}


@contextmanager
def worker_app(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Give a Celery app that is configured as the worker's and Flower's."""
    for scheme in ("redis", "rediss", "sentinel"):
        monkeypatch.setitem(TRANSPORT_ALIASES, scheme, TRANSPORT_ALIASES[scheme])
    monkeypatch.setattr(kombu.transport, "_transport_cache", {})
    transport.install()
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", url)
    monkeypatch.setenv("CHUNKSPOOL_QUEUE", QUEUE)
    with Celery("worker", set_as_current=False) as app:
        app.config_from_object(SimpleNamespace(**runpy.run_path(str(CONFIGURATION))))
        yield app


def take_message(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the task id of the next message that a worker would get."""
    with worker_app(url, monkeypatch) as app, app.connection_for_read() as connection:
        assert connection.transport_options["health_check_interval"] == 5
        with connection.SimpleQueue(QUEUE) as queue:
            message = queue.get(timeout=10)
            message.ack()
            return str(message.headers["id"])


async def demand_service(url: str, monkeypatch: pytest.MonkeyPatch) -> Generation:
    """Fail unless both faces write and read there, readers hear what is new, and a worker gets the message."""
    with spool_for(url, queue=QUEUE) as spool:
        first = spool.enqueue(CHAT, "x")
        assert take_message(url, monkeypatch) == first.generation_id
        with spool.subscribe(CHAT) as entries, spool.produce(CHAT, first.generation_id) as out:
            out.text("hello")
            assert [next(entries).type for _ in range(3)][2] == "text.delta"
    async with async_spool_for(url, queue=QUEUE) as spool:
        second = await spool.enqueue(CHAT, "x")
        assert take_message(url, monkeypatch) == second.generation_id
        async with spool.subscribe(CHAT, second.after) as entries:
            assert (await anext(entries)).type == "generation.queued"
            await spool.stop(CHAT)
            assert (await anext(entries)).type == "generation.stopped"
    return first


@pytest.mark.parametrize("kind", URLS)
async def test_a_url_works_for_all(kind: str, server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enqueue, the message, a worker's connection, both readers: the same server and the same database."""
    make, db = URLS[kind]
    await demand_service(make(server), monkeypatch)
    with Redis.from_url(server.url) as admin:
        used = {int(name.removeprefix("db")) for name in admin.info("keyspace")}
    assert used == {db}


async def test_ipv6(server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in brackets."""
    try:
        socket.create_connection(("::1", server.port)).close()
    except OSError as error:
        pytest.skip(f"this machine has no ::1: {error}")
    await demand_service(f"redis://:{ENCODED}@[::1]:{server.port}/1", monkeypatch)


async def test_sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Sentinels are asked where the primary is; one of them may be down."""
    try:
        with watched_servers(tmp_path, password=PASSWORD.replace(" ", "")) as watched:
            watched.sentinels[0].process.kill()
            made = await demand_service(watched.url, monkeypatch)
            with watched.primary.client() as admin:
                assert admin.exists(ChatKeys("default", CHAT).gen(made.generation_id))
    except ServerMissing as missing:
        skip_missing(missing)
