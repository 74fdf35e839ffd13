"""TLS: a server that cannot prove who it is gets no password, whichever part of chunkspool connects to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from support.chats.logs import CHAT
from support.chats.spools import settings_for
from support.missing import skip_missing
from support.servers.redis_server import ServerMissing
from support.servers.tls import IMPOSTORS, Authority, Impostor, TlsServer, impostor, tls_server

from chunkspool import AsyncSpool, Spool
from chunkspool.demo.ports import LOOPBACK
from chunkspool.errors import BrokerRefused, ChunkspoolError, StoreRefused
from chunkspool.reading.pubsub import AsyncPubSubConnection, PubSubConnection
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.store.client import connect, connect_async
from chunkspool.store.failover import PrimaryWatch

SECRET = "hunter2"
UNVERIFIED = "certificate verify failed"


def read(url: str) -> None:
    """Read the log."""
    with Spool.from_settings(settings_for(url)) as spool:
        spool.revoke("one")


def read_on_a_loop(url: str) -> None:
    """Read the log, from an event loop."""

    async def run() -> None:
        async with AsyncSpool.from_settings(settings_for(url)) as spool:
            await spool.revoke("one")

    asyncio.run(run())


def subscribe(url: str) -> None:
    """Open the connection that all readers of a process share."""
    with closing(connect(url)) as client:
        PubSubConnection.open(client, PrimaryWatch()).close()


def subscribe_on_a_loop(url: str) -> None:
    """Open the connection that all readers of an event loop share."""

    async def run() -> None:
        async with connect_async(url) as client:
            await (await AsyncPubSubConnection.open(client, PrimaryWatch())).close()
        await asyncio.sleep(0.1)  # TLS takes its leave; Python warns of a loop that does not wait for it

    asyncio.run(run())


def dispatch(url: str) -> None:
    """Send a message to the broker."""
    with closing(Dispatcher(settings_for(url, publish_timeout=2))) as dispatcher:
        dispatcher.publish("default", CHAT, "one", "chunkspool", "chunkspool.generate")


CONNECTING: dict[str, Callable[[str], None]] = {
    "log": read,
    "log, asyncio": read_on_a_loop,
    "readers": subscribe,
    "readers, asyncio": subscribe_on_a_loop,
    "dispatcher": dispatch,
}
everywhere = pytest.mark.parametrize("connecting", CONNECTING.values(), ids=CONNECTING)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Impostor]:
    """Give a server with a certificate of its own making."""
    try:
        with impostor(tmp_path) as running:
            yield running
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority that is known to a URL that names it."""
    try:
        return Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)


@contextmanager
def tls(folder: Path, authority: Authority, *, host: str = LOOPBACK, clients: bool = False) -> Iterator[TlsServer]:
    """Give a server with a password and a certificate; skip where none speaks TLS."""
    try:
        with tls_server(folder, authority, password=SECRET, host=host, clients=clients) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


def url_of(port: int, query: str = "") -> str:
    """Return a URL with a password in it."""
    return f"rediss://:{SECRET}@{LOOPBACK}:{port}/0?{query}"


@everywhere
def test_an_impostor_gets_no_password(connecting: Callable[[str], None], stranger: Impostor) -> None:
    """A URL that says nothing of certificates means that they are verified."""
    with pytest.raises((StoreRefused, BrokerRefused), match=UNVERIFIED) as refused:
        connecting(url_of(stranger.port))
    assert SECRET not in str(refused.value)
    assert stranger.connections > 0
    assert stranger.heard == b""


@everywhere
@pytest.mark.parametrize("kind", IMPOSTORS)
def test_an_impostor_is_told_as_one(
    kind: str, connecting: Callable[[str], None], authority: Authority, tmp_path: Path
) -> None:
    """By an error of its own, which says what is wrong with its certificate; it hears nothing."""
    said, make = IMPOSTORS[kind]
    with impostor(tmp_path, make(authority, tmp_path)) as stranger:
        with pytest.raises((StoreRefused, BrokerRefused), match=said) as refused:
            connecting(url_of(stranger.port, f"ssl_ca_certs={authority.ca.certfile}"))
        assert isinstance(refused.value, BrokerRefused) == (connecting is dispatch)
        assert SECRET not in str(refused.value)
        assert stranger.connections > 0
        assert stranger.heard == b""


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_an_impostor_of_rabbitmq(
    kind: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """amqps:// verifies the certificate and the host name, too; the authority is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca.certfile))
    _, make = IMPOSTORS[kind]
    with impostor(tmp_path, make(authority, tmp_path)) as stranger:
        url = f"amqps://user:{SECRET}@{LOOPBACK}:{stranger.port}//"
        settings = settings_for("redis://localhost", broker_url=url, publish_timeout=2)
        with closing(Dispatcher(settings)) as dispatcher, pytest.raises(BrokerRefused, match=UNVERIFIED):
            dispatcher.publish("default", CHAT, "one", "chunkspool", "chunkspool.generate")
        assert stranger.heard == b""


def test_the_impostor_of_rabbitmq_would_hear_it(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it had the right certificate: the first thing that a client says is the protocol's name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca.certfile))
    with impostor(tmp_path, authority.sign("server")) as stranger:
        url = f"amqps://user:{SECRET}@{LOOPBACK}:{stranger.port}//"
        settings = settings_for("redis://localhost", broker_url=url, publish_timeout=2)
        with closing(Dispatcher(settings)) as dispatcher, suppress(ChunkspoolError):
            dispatcher.publish("default", CHAT, "one", "chunkspool", "chunkspool.generate")
        assert stranger.heard.startswith(b"AMQP")


@everywhere
def test_the_impostor_would_hear_it(connecting: Callable[[str], None], stranger: Impostor) -> None:
    """Where the URL asks for no verification: otherwise the test above proves nothing."""
    with suppress(ChunkspoolError):
        connecting(url_of(stranger.port, "ssl_cert_reqs=none"))
    assert SECRET.encode() in stranger.heard


@pytest.mark.parametrize("clients", [False, True], ids=["server", "both"])
def test_a_server_that_proves_who_it_is(clients: bool, authority: Authority, tmp_path: Path) -> None:
    """With a certificate of an authority that the URL names; and with one of ours, where the server wants one."""
    with tls(tmp_path, authority, clients=clients) as server:
        query = server.query
        if clients:
            for connecting in CONNECTING.values():
                with pytest.raises(ChunkspoolError):
                    connecting(url_of(server.tls_port, query))
            own = authority.sign("client")
            query += f"&ssl_certfile={own.certfile}&ssl_keyfile={own.keyfile}"
        for connecting in CONNECTING.values():
            connecting(url_of(server.tls_port, query))


def test_a_certificate_of_another_host(authority: Authority, tmp_path: Path) -> None:
    """It is refused, though its authority is known, unless the URL says that the name does not matter."""
    with tls(tmp_path, authority, host="127.0.0.9") as server:
        for connecting in CONNECTING.values():
            with pytest.raises((StoreRefused, BrokerRefused), match=UNVERIFIED):
                connecting(url_of(server.tls_port, server.query))
            connecting(url_of(server.tls_port, f"{server.query}&ssl_check_hostname=false"))
