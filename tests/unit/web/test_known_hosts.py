"""Under DNS rebinding a browser asks for the page's own host, which is not this server's."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from chunkspool.web.middleware.known_hosts import KnownHosts


def status_for(host: str) -> int:
    """Return the status of a request with this `Host`; 404 is the app's own."""
    with TestClient(KnownHosts(Starlette(), ["0.0.0.0", " Chat.Example", ""])) as client:  # noqa: S104 - a name here
        return client.get("/", headers={"host": host}).status_code


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST", "localhost.", "a.localhost", "chat.example", "CHAT.example:80"),
        *("127.0.0.1", "127.0.0.1:8000", "192.168.1.5:8000", "[::1]", "[::1]:8000", "0.0.0.0:8000"),
    ],
)
def test_own_names_and_addresses_are_known(host: str) -> None:
    """An address cannot be rebound; localhost and the configured names are this server's."""
    assert status_for(host) == 404


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "xlocalhost",
            "chat.example.evil",
            "127.0.0.1.x",
        ),
        *(
            "evil.example:80:80",
            "[evil.example]",
            "localhost@evil.example",
            "chat.example, evil.example",
            "127.0.0.1.x",
        ),
    ],
)
def test_every_other_name_is_refused(host: str) -> None:
    """421, before anything is done."""
    assert status_for(host) == 421
