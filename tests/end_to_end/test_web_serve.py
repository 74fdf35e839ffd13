"""A server with open event streams can be shut down: by `chunkspool serve`, and mounted in somebody else's app."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support.logs import CHAT
from support.nodes import PROJECT
from support.spools import spool_for
from support.waiting import eventually
from support.web import Site

from chunkspool import Settings
from chunkspool.errors import SettingsError
from chunkspool.web import SignedTokens
from chunkspool.web.serve import serve
from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

SECRET = "a secret of enough characters"
SERVE = "import sys; from chunkspool import Settings; from chunkspool.web.serve import serve; "
SERVE += "serve(Settings.from_env(), '127.0.0.1', int(sys.argv[1]), open_access=False)"


def command(kind: str, port: int) -> list[str]:
    """Return the command line of a server."""
    if kind == "serve":
        return [sys.executable, "-c", SERVE, str(port)]
    return [sys.executable, "-m", "uvicorn", "examples.mounted_in_fastapi:app", "--port", str(port)]


@pytest.fixture
def secret(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> SignedTokens:
    """Set the environment of the servers."""
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", redis_url)
    monkeypatch.setenv("CHUNKSPOOL_TOKEN_SECRET", SECRET)
    return SignedTokens(SECRET)


def started(kind: str, port: int, folder: Path) -> Process:
    """Start a server; return when it listens."""
    process = Process.start(f"web-{kind}", command(kind, port), folder, env=dict(os.environ), cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    return process


@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
@pytest.mark.parametrize("kind", ["serve", "mounted"])
def test_a_shutdown_ends_open_streams_and_their_clients_go_on_elsewhere(
    kind: str, redis_url: str, secret: SignedTokens, tmp_path: Path
) -> None:
    """SIGTERM with silent streams open: they end, the process within seconds, and their readers miss nothing."""
    port, path = free_port(), "" if kind == "serve" else "/chat"
    process = started(kind, port, tmp_path)
    headers = {"Authorization": f"Bearer {secret.issue(CHAT)}"}
    events = f"{path}/v1/chats/{CHAT}/events"
    with spool_for(redis_url) as spool, ExitStack() as open_streams:
        generation = spool.enqueue(CHAT, "hello")
        client = open_streams.enter_context(
            httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers=headers, timeout=30)
        )
        site = Site(str(client.base_url), client)
        streams = [open_streams.enter_context(site.following(events)) for _ in range(20)]
        for stream in streams:
            stream.until(lambda s: s.seqs == [1])
        process.popen.send_signal(signal.SIGTERM)
        for stream in streams:
            assert stream.whole().seqs == [1]
        eventually(lambda: not process.alive, 10)
        with spool.produce(CHAT, generation.id) as out:
            out.text("said while nobody listened")
        process = started(kind, port, tmp_path)
        with site.following(events, headers={"Last-Event-ID": "1"}) as resumed:
            assert resumed.whole().seqs == [2, 3, 4]
        process.terminate()


def test_serve_refuses_to_start_open_by_accident() -> None:
    """Without a token secret and without --open there is a message, and no server."""
    with pytest.raises(SettingsError, match=r"CHUNKSPOOL_TOKEN_SECRET .* --open"):
        serve(Settings.checked({}), LOOPBACK, free_port(), open_access=False)
