"""A web server that is killed gives its event streams back: to the tenant, to their owner and to their chat."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.processes.nodes import PROJECT
from support.waiting import eventually
from support.web.web_server import Site

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process
from chunkspool.web import SignedTokens

SECRET = "a secret of more than thirty-two bytes"
LIMITS = ("streams", "owner_streams", "chat_streams")
FOLLOW = f"/v1/chats/{CHAT}/events?follow=true"
LEASE = 30.0
"""Seconds for which what a process told counts."""


@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
def test_a_killed_server_holds_no_streams(
    redis_url: str, client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill -9: for half a minute others are refused for each limit, and then no longer."""
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", redis_url)
    monkeypatch.setenv("CHUNKSPOOL_TOKEN_SECRET", SECRET)
    headers = {"Authorization": f"Bearer {SignedTokens(SECRET).issue(CHAT, owner='me')}"}
    ports = [free_port(), free_port()]
    with spool_for(redis_url) as spool, ExitStack() as stack:
        spool.enqueue(CHAT, "x")
        servers = [start_server(port, tmp_path) for port in ports]
        for server in servers:
            stack.callback(server.terminate)
        clients = [httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers=headers, timeout=30) for port in ports]
        killed, other = (Site(str(one.base_url), stack.enter_context(one)) for one in clients)
        streams = [stack.enter_context(killed.open_stream(FOLLOW)) for _ in range(3)]
        for stream in streams:
            stream.read_until(lambda s: bool(s.events))
        servers[0].popen.send_signal(signal.SIGKILL)
        eventually(lambda: not servers[0].alive)
        for limit in LIMITS:
            spool.set_policy(**{limit: 3})
            assert ask_to_follow(other) == (429, limit)
            spool.set_policy(**{limit: None})
        spool.set_policy(**dict.fromkeys(LIMITS, 3))
        eventually(lambda: ask_to_follow(other)[0] == 200, LEASE + 10, every=0.5)
        assert not [key for key in client.scan_iter(match="cs:{index}:*streams*") if client.pttl(key) <= 0]


def start_server(port: int, folder: Path) -> Process:
    """Start a server; return when it listens."""
    command = [sys.executable, "-m", "chunkspool.cli", "serve", "--port", str(port)]
    process = Process.start(f"web-{port}", command, folder, env=dict(os.environ), cwd=PROJECT)
    process.wait_until(lambda: is_taken(port), 30)
    return process


def ask_to_follow(site: Site) -> tuple[int, str]:
    """Open one more stream; return the status and the limit that was met."""
    with site.client.stream("GET", FOLLOW) as reply:
        return reply.status_code, "" if reply.status_code == 200 else json.loads(reply.read())["limit"]
