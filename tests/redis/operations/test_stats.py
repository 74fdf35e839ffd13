"""`Spool.stats` counts what there is to do and to keep, for all tenants; it is cheap, and says what it cannot know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.spools import spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.slots import offer_no_slots
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.operations.stats import SAMPLES
from chunkspool.store.keys import TENANT_BYTES, TENANT_CHATS, ChatKeys, QueueKeys
from chunkspool.store.stats import TENANTS_MAX

QUEUE = QueueKeys("chunkspool")


@pytest.fixture(params=SPOOL_KINDS)
def asked(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of either kind, whose stats are asked for."""
    with open_spool(request.param, redis_url) as spool:
        yield spool


def answer(spool: Spool, chat_id: str, text: str = "x") -> None:
    """Ask, and answer."""
    made = spool.enqueue(chat_id, "x")
    with spool.produce(chat_id, made.generation_id) as out:
        out.text(text)


def fill(spool: Spool, tenant: str, chats: int, size: int = 2000) -> None:
    """Answer in so many chats of a tenant."""
    for number in range(chats):
        answer(spool.for_tenant(tenant), f"chat-{number}", "x" * size)


def take(client: Redis, tenant: str) -> int:
    """Return what Redis says that all keys of a tenant's chats take."""
    return sum(int(client.memory_usage(key) or 0) for key in client.scan_iter(f"cs:{{{tenant}/*"))


def test_nothing_is_there(asked: BlockingSpool) -> None:
    """An empty Redis has nothing queued, nothing kept, and no oldest one; the limits are those that hold."""
    stats = asked.stats()
    assert stats.queued == {"interactive": 0, "batch": 0}
    assert (stats.running, stats.oldest_queued, stats.chats, stats.tenants) == (0, None, 0, 0)
    assert stats.memory is not None
    assert (stats.memory.tenants, stats.memory.others, stats.memory.sampled) == ({}, 0, 0)
    assert stats.limits == asked.policy()
    assert stats.queue == "chunkspool"


def test_what_is_queued_and_what_runs_is_counted(asked: BlockingSpool, spool: Spool, client: Redis) -> None:
    """By priority, whether it waits for its turn or is with the broker, and whosever it is."""
    offer_no_slots(client)
    first = spool.enqueue("first", "x")
    made = [spool.enqueue(f"c{n}", "x", priority="interactive" if n % 3 else "batch").generation_id for n in range(6)]
    spool.for_tenant("acme").enqueue("theirs", "x")
    assert asked.stats().queued == {"interactive": 6, "batch": 2}
    with spool.produce("first", first.generation_id):
        eventually(lambda: asked.stats().running == 1)
        stats = asked.stats()
        assert stats.queued == {"interactive": 5, "batch": 2}
        assert stats.generations["runs"] == 1
        assert stats.generations["waits"] + stats.generations["sent"] == 7
        assert stats.generations["waits"]
        spool.stop("c0", made[0])
        eventually(lambda: asked.stats().queued == {"interactive": 5, "batch": 1})
        assert asked.stats(queue="another").queued == {"interactive": 0, "batch": 0}
    eventually(lambda: asked.stats().running == 0)


def test_the_oldest_that_is_queued_is_told(asked: BlockingSpool, spool: Spool, client: Redis) -> None:
    """In seconds since it was enqueued, of either priority; one that is claimed counts no more."""
    old = spool.enqueue("old", "x", priority="batch")
    member = ChatKeys("default", "old").member(old.generation_id)
    long_ago = client.time()[0] * 1000 - 90_000
    client.zadd(QUEUE.queued("batch"), {member: long_ago})
    spool.enqueue("new", "x")
    found = asked.stats()
    assert found.oldest_queued == found.oldest_by_priority["batch"]
    assert 90 <= (found.oldest_queued or 0) < 120
    assert found.oldest_by_priority["interactive"] < 60
    with spool.produce("old", old.generation_id):
        eventually(lambda: (asked.stats().oldest_queued or 0) < 60)


def test_what_a_sweep_finds_is_counted(spool: Spool, client: Redis) -> None:
    """Where the counts were evicted, or an older version filled Redis: what waits is known again after a sweep."""
    offer_no_slots(client)
    for number in range(3):
        spool.enqueue(f"c{number}", "x")
    client.delete(QUEUE.queued("interactive"))
    spool.sweep(queue_is_empty=False)
    assert spool.stats().queued["interactive"] == 2  # the third is with the broker: a worker takes it soon
    client.zadd(QUEUE.queued("interactive"), {"default gone 0199b2f2-0000-7000-8000-000000000000": 1})
    client.delete(QUEUE.sweep_lock)
    spool.sweep(queue_is_empty=False)
    assert (spool.stats().oldest_queued or 0) < 60


def test_what_the_tenants_take_is_about_right(asked: BlockingSpool, spool: Spool, client: Redis) -> None:
    """Within a fifth of what Redis says that all their keys take together, from a part of the chats."""
    fill(spool, "large", 40, size=20_000)
    fill(spool, "small", 4)
    eventually(lambda: asked.stats().chats == 44)
    stats = asked.stats()
    assert stats.memory is not None
    assert stats.tenants == 2
    assert 2 < stats.memory.sampled < 44
    assert list(stats.memory.tenants) == ["large", "small"]
    for tenant, taken in stats.memory.tenants.items():
        assert taken == pytest.approx(take(client, tenant), rel=0.2)
    assert stats.memory.others == 0


def test_of_many_tenants_the_largest_are_told(asked: BlockingSpool, spool: Spool, client: Redis) -> None:
    """Twenty by name, the others together; the number of chats that are measured has a bound."""
    for number in range(TENANTS_MAX + 5):
        fill(spool, f"t{number:02}", 1, size=100 if number < 5 else 20_000)
    eventually(lambda: asked.stats().tenants == TENANTS_MAX + 5)
    stats = asked.stats()
    assert stats.memory is not None
    assert set(stats.memory.tenants) == {f"t{number:02}" for number in range(5, TENANTS_MAX + 5)}
    assert stats.memory.sampled <= SAMPLES
    assert stats.memory.others == pytest.approx(sum(take(client, f"t{n:02}") for n in range(5)), rel=0.3)


def test_what_is_erased_or_expires_is_counted_no_more(spool: Spool, client: Redis) -> None:
    """A tenant without a chat is no tenant, and no key is left of it."""
    fill(spool, "acme", 2)
    eventually(lambda: spool.stats().chats == 2)
    spool.for_tenant("acme").erase("chat-0")
    eventually(lambda: spool.stats().chats == 1)
    spool.sweep(queue_is_empty=False)
    client.delete(QUEUE.sweep_lock)
    client.zadd("cs:{index}:sizes_until:acme", {"chat-1": 1})
    client.zadd("cs:{index}:sizes_due", {"acme": 1})
    spool.sweep(queue_is_empty=False)
    stats = spool.stats()
    assert (stats.chats, stats.tenants) == (0, 0)
    assert client.exists(TENANT_BYTES, TENANT_CHATS) == 0


def test_the_totals_are_true_again_after_an_eviction(spool: Spool, client: Redis) -> None:
    """They are the sums of what stands beside them, whichever keys were evicted."""
    fill(spool, "acme", 2)
    fill(spool, "other", 1)
    eventually(lambda: spool.stats().chats == 3)
    client.delete(TENANT_BYTES, TENANT_CHATS)
    fill(spool, "other", 1)
    eventually(lambda: spool.stats().chats == 1)
    client.delete("cs:{index}:sizes:other")
    fill(spool, "other", 2)
    eventually(lambda: spool.stats().chats == 2)


def test_its_cost_has_a_bound(spool: Spool, client: Redis) -> None:
    """However much there is: a few hundred commands, each of them short, and none that goes through all keys."""
    for number in range(TENANTS_MAX + 5):
        fill(spool, f"t{number:02}", 3)
    eventually(lambda: spool.stats().chats == 3 * (TENANTS_MAX + 5))
    with spool_for(spool.settings.log.redis_url) as fresh:
        client.config_resetstat()
        fresh.stats()
    ran = {name: int(one["calls"]) for name, one in client.info("commandstats").items()}
    assert sum(ran.values()) < 12 * SAMPLES + 100, ran
    assert not set(ran) & {"cmdstat_keys", "cmdstat_scan", "cmdstat_sscan", "cmdstat_zscan", "cmdstat_hscan"}


def test_the_server_tells_its_memory(asked: BlockingSpool, client: Redis) -> None:
    """What it uses and what it may use; 0 where it has no limit."""
    assert asked.stats().max_memory == 0
    client.config_set("maxmemory", "200mb")
    try:
        stats = asked.stats()
    finally:
        client.config_set("maxmemory", "0")
    assert stats.max_memory == 200 * 1024**2
    assert stats.used_memory == pytest.approx(int(client.info("memory")["used_memory"]), rel=0.5)
    assert stats.unknown == {}
