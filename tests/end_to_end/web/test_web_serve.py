"""A server with open event streams shuts down quickly: `chunkspool serve`, and the routes mounted in another app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.processes.nodes import PROJECT
from support.waiting import eventually
from support.web.web_server import Site

from chunkspool import AsyncSpool, Settings
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process
from chunkspool.errors import SettingsError
from chunkspool.web import SignedTokens, create_app
from chunkspool.web.serve import serve

SECRET = "a secret of more than thirty-two bytes"


def server_command(kind: str, port: int) -> list[str]:
    """Return the command line of a server."""
    if kind == "serve":
        return [sys.executable, "-m", "chunkspool.cli", "serve", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", "examples.mounted_in_fastapi:app", "--port", str(port)]


@pytest.fixture
def secret(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> SignedTokens:
    """Set the environment of the servers; give their tokens."""
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", redis_url)
    monkeypatch.setenv("CHUNKSPOOL_TOKEN_SECRET", SECRET)
    return SignedTokens(SECRET)


def start_server(kind: str, port: int, folder: Path) -> Process:
    """Start a server; return when it listens."""
    process = Process.start(f"web-{kind}", server_command(kind, port), folder, env=dict(os.environ), cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    return process


@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
@pytest.mark.parametrize("kind", ["serve", "mounted"])
def test_a_shutdown_ends_open_streams_and_their_clients_resume_elsewhere(
    kind: str, redis_url: str, secret: SignedTokens, tmp_path: Path
) -> None:
    """After SIGTERM, silent streams end, the process exits within seconds, and a resume misses nothing."""
    port, path = free_port(), "" if kind == "serve" else "/chat"
    process = start_server(kind, port, tmp_path)
    headers = {"Authorization": f"Bearer {secret.issue(CHAT)}"}
    events = f"{path}/v1/chats/{CHAT}/events"
    with spool_for(redis_url) as spool, ExitStack() as open_streams:
        generation = spool.enqueue(CHAT, "hello")
        client = open_streams.enter_context(
            httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers=headers, timeout=30)
        )
        site = Site(str(client.base_url), client)
        streams = [open_streams.enter_context(site.open_stream(events)) for _ in range(20)]
        for stream in streams:
            stream.read_until(lambda s: s.seqs == [1])
        process.popen.send_signal(signal.SIGTERM)
        for stream in streams:
            assert stream.read_to_end().seqs == [1]
        eventually(lambda: not process.alive, 10)
        with spool.produce(CHAT, generation.generation_id) as out:
            out.text("said while nobody listened")
        process = start_server(kind, port, tmp_path)
        with site.open_stream(events, headers={"Last-Event-ID": "1"}) as resumed:
            assert resumed.read_to_end().seqs == [2, 3, 4]
        process.terminate()


def test_serve_does_not_start_open_by_accident() -> None:
    """Without a token secret and without --open, it raises an error that names both."""
    with pytest.raises(SettingsError, match=r"CHUNKSPOOL_TOKEN_SECRET .* --open"):
        serve(Settings.checked({}), LOOPBACK, free_port(), open_access=False)


def run_chunkspool(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process."""
    command = [sys.executable, "-m", "chunkspool.cli", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHUNKSPOOL_")}
    return subprocess.run(  # noqa: S603 - the project's own command line
        command, cwd=PROJECT, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", [("serve",), ("token", "chat")])
def test_without_a_secret_the_commands_name_the_variable(command: tuple[str, ...]) -> None:
    """Exit code 2 and a message with the variable to set, without a traceback."""
    told = run_chunkspool(*command)
    assert (told.returncode, told.stdout) == (2, "")
    assert "CHUNKSPOOL_TOKEN_SECRET" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_routes_accept_the_token_that_the_command_prints(secret: SignedTokens, redis_url: str) -> None:
    """One line on standard output: a token for the chat and the actions that were asked for."""
    told = run_chunkspool("token", CHAT, "--action", "read", "--seconds", "60", CHUNKSPOOL_TOKEN_SECRET=SECRET)
    assert told.returncode == 0, told.stderr
    token = told.stdout.strip()
    app = create_app(AsyncSpool.from_url(redis_url), secret, closes_spool=True)
    with TestClient(app) as client:
        allowed = {"Authorization": f"Bearer {token}"}
        assert client.get(f"/v1/chats/{CHAT}", headers=allowed).status_code == 404
        assert client.get("/v1/chats/other", headers=allowed).status_code == 403
        assert client.delete(f"/v1/chats/{CHAT}", headers=allowed).status_code == 403
    refused = run_chunkspool("token", CHAT, "--action", "everything", CHUNKSPOOL_TOKEN_SECRET=SECRET)
    assert refused.returncode == 2
    assert "ask, read, stop" in refused.stderr
