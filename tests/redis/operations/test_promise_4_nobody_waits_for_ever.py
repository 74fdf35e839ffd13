"""Promise 4: a generation whose message was lost for good also ends; one that only waits long does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_log, types_of
from support.chats.spools import claim_and_die, spool_for
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.store.keys import REPUBLISHED, SWEEP_LOCK, UNFINISHED

LOST_AFTER = 0.3


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool for which a generation counts as lost soon."""
    with spool_for(redis_url, lost_after=LOST_AFTER, sweep_interval=0.001) as made:
        yield made


def sweep_until_found(spool: Spool, *, queue_is_empty: bool) -> tuple[str, ...]:
    """Sweep until something is found."""
    return eventually(lambda: spool.sweep(queue_is_empty=queue_is_empty))


def age_of_newest(spool: Spool, chat_id: str) -> float:
    """Return the seconds since the chat's newest generation was enqueued."""
    status = spool.status(chat_id)
    return (status.now - status.generations[-1].created) / 1000


def test_a_generation_whose_message_is_nowhere_fails_as_lost(spool: Spool, client: Redis) -> None:
    """It was queued and the broker lost its data: its reader gets an ending, and the status says why."""
    asked = spool.enqueue(CHAT, "x")
    assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)
    log = read_log(client)
    assert types_of(log, asked.generation_id) == ["generation.queued", "generation.failed"]
    assert ending_of(log, asked.generation_id)["code"] == "lost"
    assert [one.state for one in spool.status(CHAT).generations] == ["lost"]
    with spool.subscribe(CHAT) as entries:
        assert [entry.type for entry in entries] == ["generation.queued", "generation.failed"]


def test_a_dead_attempt_that_nobody_takes_over_fails_as_lost(spool: Spool, client: Redis) -> None:
    """Its worker and its message are both gone; until it is found lost, the status says stalled."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=0.05)
    assert eventually(lambda: spool.status(CHAT).generations[0].state == "stalled")
    assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)
    assert ending_of(read_log(client), asked.generation_id)["code"] == "lost"


def test_a_generation_in_a_long_queue_is_not_lost(spool: Spool) -> None:
    """While messages wait and no later generation was taken, its message is still among them."""
    waiting = spool.enqueue(CHAT, "x")
    eventually(lambda: age_of_newest(spool, CHAT) > LOST_AFTER)
    assert spool.sweep(queue_is_empty=False) == ()
    assert spool.status(CHAT).active == (waiting.generation_id,)


def test_an_overtaken_generation_is_lost(spool: Spool, client: Redis) -> None:
    """The queue is never empty, but workers took generations enqueued later: its message is gone."""
    lost = spool.enqueue("lost", "x")
    taken = spool.enqueue(CHAT, "y")
    claim_and_die(client, taken.generation_id, lease=60)
    waiting = spool.enqueue("waiting", "z")
    assert sweep_until_found(spool, queue_is_empty=False) == (lost.generation_id,)
    assert spool.status("waiting").active == (waiting.generation_id,)
    assert spool.status(CHAT).active == (taken.generation_id,)


def test_a_live_attempt_is_never_lost(spool: Spool) -> None:
    """It may be silent for any time: its heartbeats are signs of life."""
    asked = spool.enqueue(CHAT, "x")
    other = spool.enqueue("other", "y")
    with spool.produce(CHAT, asked.generation_id) as out:
        assert sweep_until_found(spool, queue_is_empty=True) == (other.generation_id,)
        out.text("still here")
    assert out.state == "completed"


def test_a_lost_generation_ends_with_its_requested_stop(spool: Spool, client: Redis) -> None:
    """An acknowledged stop is the ending, even if the worker that should have written it died."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=2)
    spool.stop(CHAT, reason="enough")
    client.hset(KEYS.gen(asked.generation_id), "lease", 1)
    eventually(lambda: spool.sweep(queue_is_empty=True) or not spool.status(CHAT).active)
    assert ending_of(read_log(client), asked.generation_id)["reason"] == "enough"


def test_ended_and_erased_generations_leave_the_index(spool: Spool, client: Redis) -> None:
    """The sweep forgets ended generations; an erase and a rejected enqueue leave nothing in it."""
    spool.enqueue(CHAT, "x")
    spool.stop(CHAT)
    spool.enqueue("erased", "x")
    spool.erase("erased")
    eventually(lambda: spool.sweep(queue_is_empty=True) or client.zcard(UNFINISHED) == 0)
    assert client.zcard(UNFINISHED) == 0


def list_messages(client: Redis) -> list[str]:
    """Return the messages in the broker's queue, newest first."""
    waiting: Any = client.lrange("chunkspool", 0, -1)
    return [json.dumps(json.loads(message)["headers"]) for message in waiting]


def test_a_lost_message_is_republished(redis_url: str, client: Redis) -> None:
    """A worker died right after popping it: it is sent once more, long before the generation counts as lost."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        for tenant in ("one", "two"):
            asked = spool.for_tenant(tenant).enqueue(CHAT, "x")
            client.delete("chunkspool")
            eventually(lambda: spool.sweep(queue_is_empty=True) or list_messages(client))
            (message,) = list_messages(client)
            assert asked.generation_id in message
            assert tenant in message
            assert client.zcard(REPUBLISHED) == 1
            assert spool.for_tenant(tenant).status(CHAT).active == (asked.generation_id,)
            with spool.for_tenant(tenant).produce(CHAT, asked.generation_id):
                pass
            eventually(lambda: spool.sweep(queue_is_empty=False) or not client.zcard(REPUBLISHED))


def test_a_republished_message_may_wait_in_the_queue(redis_url: str, client: Redis) -> None:
    """It is queued behind everything enqueued before; until the queue has come that far, it is not lost again."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        lost = spool.enqueue("lost", "x")
        client.delete("chunkspool")
        taken = spool.enqueue(CHAT, "y")
        claim_and_die(client, taken.generation_id, lease=60)
        eventually(lambda: spool.sweep(queue_is_empty=False) or len(list_messages(client)) > 1)
        eventually(lambda: age_of_newest(spool, "lost") > 0.5)
        for _ in range(5):
            assert eventually(lambda: not client.exists(SWEEP_LOCK))
            spool.sweep(queue_is_empty=False)
        newest, _ = list_messages(client)
        assert lost.generation_id in newest


def test_of_many_processes_one_sweeps(redis_url: str) -> None:
    """Within one interval the first process does the work and the others do nothing."""
    with spool_for(redis_url, lost_after=0.001, sweep_interval=600) as spool:
        asked = spool.enqueue(CHAT, "x")
        eventually(lambda: age_of_newest(spool, CHAT) > 0.001)
        found = [spool.sweep(queue_is_empty=True) for _ in range(5)]
    assert found == [(asked.generation_id,), (), (), (), ()]


def test_a_sweep_covers_more_than_a_page(spool: Spool) -> None:
    """Over a thousand lost generations are found in one sweep."""
    many = [spool.enqueue(f"chat-{number}", "x").generation_id for number in range(1001)]
    eventually(lambda: age_of_newest(spool, "chat-1000") > LOST_AFTER)
    assert set(spool.sweep(queue_is_empty=True)) == set(many)
