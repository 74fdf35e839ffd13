"""TLS from the command line and from `chunkspool serve`: both work with our authority, and tell an impostor as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.missing import skip_missing
from support.processes.command import RunningCommand, error_line, run
from support.servers.redis_server import ServerMissing
from support.servers.tls import IMPOSTORS, Authority, impostor, tls_server
from support.waiting import eventually
from support.web.web_server import problem

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken

SECRET = "hunter2"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give the authority that the URLs name."""
    try:
        return Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)


@contextmanager
def served(url: str) -> Iterator[tuple[httpx.Client, RunningCommand]]:
    """Run `chunkspool serve`."""
    port = free_port()
    with RunningCommand(url, "serve", "--open", "--port", str(port)) as server:
        eventually(lambda: is_taken(port), 30)
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:
            yield client, server


def test_a_server_of_our_authority(authority: Authority, tmp_path: Path) -> None:
    """The command line and the web app use it."""
    try:
        with tls_server(tmp_path, authority, password=SECRET) as server, served(server.url) as (client, _):
            asked = client.post("/v1/chats/chat/generations", json={"prompt": "hello"})
            assert asked.status_code == 202
            done = run(server.url, "status", "chat")
            assert (done.returncode, asked.json()["generation"] in done.stdout) == (0, True)
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_an_impostor_is_told_as_one(kind: str, authority: Authority, tmp_path: Path) -> None:
    """One line says what is wrong with the certificate; over HTTP Redis "refuses", and is not "away"."""
    said, make = IMPOSTORS[kind]
    with impostor(tmp_path, make(authority, tmp_path)) as stranger:
        url = f"rediss://:{SECRET}@{LOOPBACK}:{stranger.port}/0?ssl_ca_certs={authority.ca.certfile}"
        done = run(url, "status", "chat")
        assert done.returncode == 1
        assert said in error_line(done)
        with served(url) as (client, server):
            document = problem(client.get("/readyz"))
            assert document["type"].endswith(":store-refuses")
            server.interrupt()
            _, out, err = server.wait()
        assert said in err
        assert SECRET not in done.stderr + out + err + str(document)
        assert stranger.heard == b""
