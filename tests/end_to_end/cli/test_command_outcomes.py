"""`chunkspool outcomes` as a process: how answers end, who reads it, and what was set aside."""

from __future__ import annotations

import json

from support.chats.logs import CHAT
from support.processes.command import ONE_SERVER, RunningCommand, error_line, run
from support.waiting import eventually

from chunkspool import Spool


def end_one(spool: Spool) -> str:
    """Let a generation end; return its id."""
    made = spool.enqueue(CHAT, "x")
    spool.stop(CHAT, made.generation_id)
    return made.generation_id


@ONE_SERVER
def test_a_group_is_shown_read_and_ended(redis_url: str, spool: Spool) -> None:
    """Without options who reads; with a group what it has not read, once."""
    assert "no group reads the tenant's outcomes" in run(redis_url, "outcomes").stderr
    assert run(redis_url, "outcomes", "--group", "billing").stdout == ""
    ended = end_one(spool)
    assert run(redis_url, "outcomes").stdout.startswith("billing  1 unread, 0 not acknowledged, the oldest since ")
    assert "  billing  1 unread" in run(redis_url, "stats").stdout.replace("default billing", "billing")
    read = run(redis_url, "outcomes", "--group", "billing", "--json")
    assert (read.returncode, json.loads(read.stdout)["generation_id"]) == (0, ended)
    assert run(redis_url, "outcomes").stdout == "billing  has read all\n"
    assert run(redis_url, "outcomes", "--group", "billing", "--drop").returncode == 0
    assert spool.outcome_lag() == ()
    assert "name the group" in error_line(run(redis_url, "outcomes", "--drop"))


@ONE_SERVER
def test_what_was_set_aside_is_listed(redis_url: str, spool: Spool) -> None:
    """With the reason."""
    with spool.outcomes("billing") as outcomes:
        ended = end_one(spool)
        outcomes.set_aside(next(outcomes), "410 Gone")
    assert run(redis_url, "outcomes", "--dead").stdout.startswith(f"billing  410 Gone  {ended}  stopped  ")
    assert json.loads(run(redis_url, "outcomes", "--dead", "--json").stdout)["why"] == "410 Gone"


@ONE_SERVER
def test_following_touches_no_group(redis_url: str, spool: Spool) -> None:
    """It shows what ends from now on, and leaves nothing behind."""
    with RunningCommand(redis_url, "outcomes", "--follow", "--json") as command:
        eventually(spool.outcome_lag)
        ended = [end_one(spool) for _ in range(2)]
        seen = [json.loads(command.stdout.readline())["generation_id"] for _ in range(2)]
        assert seen == ended
        command.stdout.close()
        end_one(spool)
        eventually(lambda: not spool.outcome_lag())
