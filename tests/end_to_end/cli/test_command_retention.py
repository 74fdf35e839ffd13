"""`chunkspool retention`, `keep`, `pin` and `unpin`, as commands."""

from __future__ import annotations

import json

from redis import Redis
from support.chats.spools import spool_for
from support.processes.command import Terminal, run
from support.waiting import eventually

from chunkspool import Spool


def write(spool: Spool, chat: str, answers: int) -> None:
    """Ask and answer; an answer has four events."""
    for _ in range(answers):
        made = spool.enqueue(chat, "x")
        with spool.produce(chat, made.generation_id) as out:
            out.text("Yes.")


def test_a_tenants_logs_are_shortened(redis_url: str, client: Redis) -> None:
    """In words and as JSON, first without effect; where no bound is set, it says so."""
    with spool_for(redis_url, tenant="acme") as spool:
        for n in range(3):
            write(spool, f"chat-{n}", n + 1)
        eventually(lambda: client.zcard("cs:{index}:sizes_until:acme") == 3)
        assert "neither keep_events nor keep_bytes" in run(redis_url, "retention", "acme").stderr
        set_it = run(redis_url, "tenant", "set", "acme", "--keep-events", "4", "--keep-bytes", "1GB", "--pinned", "1")
        assert (set_it.returncode, "keep_events" in set_it.stdout) == (0, True)
        dry = run(redis_url, "retention", "acme", "--dry-run")
        assert dry.stdout.startswith("3 chats were looked at: 12 events of 2 would be dropped, about")
        assert spool.status("chat-2").first == 1
        step = json.loads(run(redis_url, "retention", "acme", "--json").stdout)
        assert (sorted(step["shortened"]), step["events"], step["after"]) == (["chat-1", "chat-2"], 12, None)
        assert spool.status("chat-2").first == 9
        assert run(redis_url, "retention", "acme").stdout.startswith("3 chats were looked at: 0 events of 0 were")
        with Terminal(redis_url, "retention", "acme", term="xterm") as terminal:
            assert terminal.wait() == 0
            assert "3/3" in terminal.seen
        assert run(redis_url, "retention", "acme", "--after", "x").returncode == 2
        assert run(redis_url, "retention", "acme", "--after", "99999999999999.z").stdout.startswith("0 chats")


def test_how_long_a_chat_is_kept(redis_url: str) -> None:
    """It is set, and shown; what is wrong ends with an exit code."""
    with spool_for(redis_url) as spool:
        write(spool, "chat", 1)
        assert run(redis_url, "keep", "chat", "30d").returncode == 0
        assert spool.status("chat").ttl == 30 * 86_400
        assert "is kept for 30 d" in run(redis_url, "status", "chat").stdout
        refused = run(redis_url, "pin", "chat")
        assert (refused.returncode, "pinned" in refused.stderr) == (1, True)
        spool.set_policy(pinned=1)
        assert run(redis_url, "pin", "chat").returncode == 0
        assert "is kept for good" in run(redis_url, "status", "chat").stdout
        assert "[pinned]" in run(redis_url, "chats").stdout
        assert ", 1 pinned" in run(redis_url, "stats").stdout
        assert run(redis_url, "unpin", "chat").returncode == 0
        assert not spool.status("chat").pinned
        assert {run(redis_url, *wrong).returncode for wrong in (("keep", "chat", "soon"), ("pin", "none"))} == {2}
