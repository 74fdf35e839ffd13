"""Promise 5: a revoke only has the task id, and is as durable as any other stop."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, types_of
from support.chats.spools import async_spool_for

from chunkspool import Spool
from chunkspool.errors import InvalidId, NotClaimed
from chunkspool.store.keys import ChatKeys


def test_a_queued_generation_ends_at_once(spool: Spool, client: Redis) -> None:
    """No worker is needed, and none will run it later; a second revoke changes nothing."""
    asked = spool.enqueue(CHAT, "hello")
    outcomes = [stop.outcome for stop in (spool.revoke(asked.generation_id), spool.revoke(asked.generation_id)) if stop]
    assert outcomes == ["stopped", "ended"]
    with pytest.raises(NotClaimed), spool.produce(CHAT, asked.generation_id):
        pass
    assert types_of(read_log(client), asked.generation_id) == ["generation.queued", "generation.stopped"]
    assert ending_of(read_log(client), asked.generation_id)["by"] == "revoke"


def test_a_running_generation_is_asked_to_stop(spool: Spool, client: Redis) -> None:
    """Its producer writes what it has so far, followed by the stop."""
    asked = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, asked.generation_id) as out:
        out.text("half")
        stop = spool.revoke(asked.generation_id)
    assert stop is not None
    assert stop.outcome == "stopping"
    assert out.state == "stopped"
    assert ending_of(read_log(client), asked.generation_id)["by"] == "revoke"


async def test_a_generation_of_any_tenant_is_found(redis_url: str, client: Redis) -> None:
    """The web app that revokes need not know the tenant."""
    async with async_spool_for(redis_url) as spool:
        asked = await spool.for_tenant("acme").enqueue(CHAT, "hello")
        stop = await spool.revoke(asked.generation_id)
    assert stop is not None
    assert ending_of(read_log(client, ChatKeys("acme", CHAT)), asked.generation_id)["by"] == "revoke"


def test_unknown_and_erased_generations_are_told_apart(spool: Spool) -> None:
    """An id without a generation differs from one that no generation can have, and from an erased one."""
    assert spool.revoke("01a20f95-8605-7f12-bae5-adf5e170be37") is None
    with pytest.raises(InvalidId):
        spool.revoke("{no id}")
    asked = spool.enqueue(CHAT, "hello")
    spool.erase(CHAT)
    assert spool.revoke(asked.generation_id) is None
