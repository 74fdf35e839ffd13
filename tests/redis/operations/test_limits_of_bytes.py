"""What the logs of a tenant and of an owner take together: exact, and true again after whatever happens."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from support.chats.killed_writer import write_and_be_killed
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import async_spool_for, spool_for
from support.servers.contents import find_keys_containing
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import LimitExceeded
from chunkspool.store.client import Store
from chunkspool.store.keys import SIZES_DUE, ChatKeys, QueueKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.schedule import hash_of
from chunkspool.store.totals import count_sizes

TOTAL = "/"
KB = 1024


def counted(client: Redis, scope: str = "default") -> int:
    """Return what the logs of a tenant, or of an owner, take together, as it is counted; check it against its parts."""
    with client.pipeline() as both:
        both.hgetall(f"cs:{{index}}:sizes:{scope}")
        both.zrange(f"cs:{{index}}:sizes_until:{scope}", 0, -1)
        sizes, expiring = both.execute()
    total = int(sizes.pop(TOTAL.encode(), 0))
    assert total == sum(int(text.split()[0]) for text in sizes.values())
    assert set(sizes) == set(expiring)
    return total


def measured(client: Redis, *chats: str) -> int:
    """Return what Redis says that the logs of chats take."""
    return sum(int(client.memory_usage(ChatKeys("default", chat).log) or 0) for chat in chats)


def of_owner(owner: str) -> str:
    """Return what stands for an owner of the default tenant."""
    return f"default/{hash_of('default', owner)}"


def answer(spool: Spool, chat_id: str, size: int = 100 * KB, **options: object) -> None:
    """Ask and answer at length."""
    made = spool.enqueue(chat_id, "x", **options)  # type: ignore[arg-type]
    with spool.produce(chat_id, made.generation_id) as out:
        for n in range(size // KB):
            out.data("n", f"{n}{'x' * KB}")


def refused(spool: Spool, chat_id: str, **options: object) -> LimitExceeded:
    """Ask and return the limit that is met."""
    with pytest.raises(LimitExceeded) as error:
        spool.enqueue(chat_id, "x", **options)  # type: ignore[arg-type]
    return error.value


def test_what_runs_is_not_cut_and_the_next_request_is_refused(spool: Spool, client: Redis) -> None:
    """The sum is looked at when a generation is asked for. The error says when the next log expires."""
    spool.set_policy(bytes=50 * KB)
    answer(spool, CHAT)
    eventually(lambda: counted(client) == measured(client, CHAT))
    for chat in (CHAT, "another"):
        error = refused(spool, chat)
        assert error.limit == "bytes"
        assert error.retry_after is not None
        assert 500 < error.retry_after <= 600  # the chat's ttl
    spool.for_tenant("other").enqueue(CHAT, "x")
    assert len(read_log(client)) == 103


def test_owners_have_sums_of_their_own(spool: Spool, client: Redis) -> None:
    """A chat counts for the owner who asked in it last, and for the tenant once."""
    spool.set_policy(owner_bytes=50 * KB)
    answer(spool, "mine", owner="me")
    eventually(lambda: counted(client, of_owner("me")) == measured(client, "mine"))
    assert refused(spool, "mine-too", owner="me").limit == "owner_bytes"
    spool.enqueue("nobodys", "x")
    answer(spool, "mine", owner="you")
    eventually(lambda: counted(client, of_owner("you")) == measured(client, "mine") == counted(client))
    assert counted(client, of_owner("me")) == 0
    spool.enqueue("mine-too", "x", owner="me")


def test_an_erased_chat_counts_no_more(spool: Spool, client: Redis) -> None:
    """At once; and nothing says that it was there, also where its last note comes after the erase."""
    spool.set_policy(bytes=50 * KB)
    answer(spool, "secret", owner="me")
    eventually(lambda: counted(client))
    refused(spool, "another")
    spool.erase("secret")
    assert counted(client) == counted(client, of_owner("me")) == 0
    spool.enqueue("another", "x")
    assert find_keys_containing(client, "secret") == ["chunkspool"]  # the queue: its message has the ids
    assert not client.exists(SIZES_DUE)


def test_an_erase_that_was_killed_before_it_told(spool: Spool, client: Redis) -> None:
    """What is gone is found before anybody is refused for it."""
    for n in range(3):
        answer(spool, f"chat-{n}", owner="me")
    spool.set_policy(bytes=50 * KB)
    eventually(lambda: counted(client) == measured(client, "chat-0", "chat-1", "chat-2"))
    client.delete(*(ChatKeys("default", f"chat-{n}").log for n in range(3)))
    spool.enqueue("another", "x")
    assert counted(client) == counted(client, of_owner("me")) == 0


def test_the_sum_is_exact_whoever_ends_at_once(client: Redis, redis_url: str) -> None:
    """Forty answers in twenty chats of four owners, told by four spools, end together."""
    spools = [spool_for(redis_url) for _ in range(4)]

    def work(n: int) -> None:
        answer(spools[n % 4], f"chat-{n % 20}", (1 + n) * KB, owner=f"owner-{n % 4}", on_active="allow")

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(work, range(40)))
    for one in spools:
        one.close()  # it tells what it knows before it ends
    chats = [f"chat-{n}" for n in range(20)]
    assert counted(client) == measured(client, *chats)
    for owner in range(4):
        mine = [f"chat-{n}" for n in range(20) if n % 4 == owner]
        assert counted(client, of_owner(f"owner-{owner}")) == measured(client, *mine)


@pytest.mark.parametrize("ends", [False, True], ids=["while it writes", "after its ending"])
def test_a_killed_writer_told_nothing(spool: Spool, client: Redis, redis_url: str, ends: bool) -> None:
    """Kill -9 of the process: the next sweep measures what it wrote."""
    spool.set_policy(bytes=50 * KB)
    made = spool.enqueue(CHAT, "x", owner="me")
    write_and_be_killed(redis_url, CHAT, made.generation_id, ends=ends)
    assert counted(client) == 0
    spool.sweep(queue_is_empty=False)
    assert counted(client) == counted(client, of_owner("me")) == measured(client, CHAT) > 100 * KB
    assert refused(spool, "another").limit == "bytes"


def test_what_runs_for_long_is_counted_by_each_sweep(spool: Spool, client: Redis) -> None:
    """Its log has grown; the generation goes on."""
    made = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, made.generation_id) as out:
        for n in range(100):
            out.data("n", f"{n}{'x' * KB}")
        eventually(lambda: len(spool.read(CHAT, limit=500)) > 100)
        spool.sweep(queue_is_empty=False)
        assert counted(client) == measured(client, CHAT) > 100 * KB


def test_chats_that_expire_count_no_more(spool: Spool, client: Redis) -> None:
    """Those that are asked about are looked at when the limit is met, all others by the sweep; no key of them stays."""
    spool.set_policy(bytes=50 * KB)
    other = spool.for_tenant("silent")
    for one in (spool, other):
        answer(one, CHAT, ttl=1.5, owner="me")
    eventually(lambda: counted(client) and counted(client, "silent"))
    assert refused(spool, "another").limit == "bytes"
    eventually(lambda: not client.exists(KEYS.log))
    spool.enqueue("another", "x")
    assert counted(client) == 0
    assert counted(client, "silent") > 0
    client.delete(QueueKeys("chunkspool").sweep_lock)
    eventually(lambda: not client.exists(ChatKeys("silent", CHAT).log))
    spool.sweep(queue_is_empty=False)
    assert not list(client.scan_iter(match="cs:{index}:sizes*"))


@pytest.mark.parametrize("evicted", ["sizes", "sizes_until", "sizes_due"])
def test_an_evicted_key_is_begun_anew(spool: Spool, client: Redis, evicted: str) -> None:
    """The sum is never that of other parts than are there."""
    for n in range(3):
        answer(spool, f"chat-{n}", KB)
    eventually(lambda: counted(client) == measured(client, "chat-0", "chat-1", "chat-2"))
    client.delete(SIZES_DUE if evicted == "sizes_due" else f"cs:{{index}}:{evicted}:default")
    spool.set_policy(bytes=1)
    if evicted == "sizes_due":
        refused(spool, "another")
        spool.set_policy(bytes=None)
    answer(spool, "chat-0", KB)
    spool.close()  # it tells what it knows before it ends
    left = ("chat-0", "chat-1", "chat-2") if evicted == "sizes_due" else ("chat-0",)
    assert counted(client) == measured(client, *left)
    assert client.zcard(SIZES_DUE)


def test_what_was_measured_earlier_says_nothing(client: Redis) -> None:
    """Two workers' notes may come in any order. A time that lies ahead was written before the clock was set back."""
    store, now = Store(client), client.time()[0] * 1000
    store.send(count_sizes("default", [(CHAT, LogSize(2000, now - 5, 60_000))]))
    store.send(count_sizes("default", [(CHAT, LogSize(1000, now - 9, 60_000))]))
    assert counted(client) == 2000
    store.send(count_sizes("default", [(CHAT, LogSize(0, now - 8, 60_000))]))
    assert counted(client) == 2000
    store.send(count_sizes("default", [(CHAT, LogSize(3000, now + 3_600_000, 60_000))]))
    store.send(count_sizes("default", [(CHAT, LogSize(1000, now, 60_000))]))
    assert counted(client) == 1000


def test_a_tenant_that_may_have_no_bytes_gets_nothing(spool: Spool) -> None:
    """0 is a limit, and no expiry will help."""
    spool.set_policy(bytes=0)
    assert (refused(spool, CHAT).limit, refused(spool, CHAT).retry_after) == ("bytes", None)
    spool.set_policy(bytes=None, owner_bytes=0)
    assert refused(spool, CHAT, owner="me").limit == "owner_bytes"
    spool.enqueue(CHAT, "x")


def test_a_chat_that_is_full_ends_its_generation(spool: Spool, client: Redis) -> None:
    """The log of a model that never stops is bounded: the answer ends as failed, and its readers learn why."""
    spool.set_policy(chat_bytes=100 * KB)
    made = spool.enqueue(CHAT, "x")
    with pytest.raises(LimitExceeded, match="chat_bytes") as full, spool.produce(CHAT, made.generation_id) as out:
        while True:
            out.data("n", "x" * KB)
    assert full.value.limit == "chat_bytes"
    assert out.state == "failed"
    last = read_log(client)[-1].event
    assert (last["type"], last["code"], last["retryable"]) == ("generation.failed", "chat_full", False)
    # Beside what was on its way, a buffer and a batch. Redis takes up to half more than the events have.
    assert 100 * KB < measured(client, CHAT) < 1.5 * (100 * KB + spool.settings.log.buffer_bytes + 256 * KB)
    assert refused(spool, CHAT).limit == "chat_bytes"


def test_an_async_generation_in_a_full_chat_is_cancelled(spool: Spool, client: Redis, redis_url: str) -> None:
    """Also while it waits for its model: the connection to the model is closed."""
    spool.set_policy(chat_bytes=100 * KB)
    made = spool.enqueue(CHAT, "x")

    async def write() -> None:
        async with async_spool_for(redis_url) as one, one.produce(CHAT, made.generation_id) as out:
            for _ in range(200):
                out.data("n", "x" * KB)
                await out.drain()
            await asyncio.sleep(60)

    with pytest.raises(LimitExceeded, match="chat_bytes"):
        asyncio.run(write())
    assert read_log(client)[-1].event["code"] == "chat_full"


def test_a_further_attempt_has_the_room_that_is_left(spool: Spool, client: Redis, redis_url: str) -> None:
    """However often it is begun again, the chat does not grow beyond its limit by more than a batch."""
    spool.set_policy(chat_bytes=300 * KB)
    made = spool.enqueue(CHAT, "x")
    write_and_be_killed(redis_url, CHAT, made.generation_id, ends=False)
    before = measured(client, CHAT)
    assert 150 * KB < before < 300 * KB
    with pytest.raises(LimitExceeded), spool.produce(CHAT, made.generation_id, wait=20) as out:
        while True:
            out.data("n", "x" * KB)
    assert out.attempt == 2
    assert read_log(client)[-1].event["code"] == "chat_full"


def test_an_answer_that_fits_is_not_touched(spool: Spool, client: Redis) -> None:
    """Within the limit nothing is different."""
    spool.set_policy(chat_bytes=300 * KB)
    answer(spool, CHAT)
    assert read_log(client)[-1].event["type"] == "generation.completed"
