"""Promise 3, one owner: when a newer attempt has claimed a generation, the older one is fenced off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from redis import Redis
from support.logs import CHAT, ending_of, generation_field, log_of, of_generation, text_of, types_of
from support.proxy import Proxy
from support.servers import PrivateServer
from support.spools import async_spool_for, claim_and_die, spool_for
from support.waiting import eventually

from chunkspool import Producer, Spool
from chunkspool.errors import Fenced, GenerationNotFound, NotClaimed

LEASE = 0.4
ENDED = ["generation.queued", "generation.started", "generation.completed"]


@pytest.fixture
def proxy(redis_server: PrivateServer, redis_url: str) -> Iterator[Proxy]:
    """Give a proxy in front of an empty server: the way of the attempt that gets lost."""
    assert redis_url == redis_server.url
    with Proxy(redis_server.port) as up:
        yield up


@pytest.fixture
def lost(proxy: Proxy) -> Iterator[Spool]:
    """Give the spool of a worker whose connection can be cut."""
    with spool_for(proxy.url, lease=LEASE) as spool:
        yield spool


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Give the spool of a worker whose connection is good."""
    with spool_for(redis_url, lease=LEASE) as spool:
        yield spool


def claim(spool: Spool, generation_id: str, wait: float = 0) -> int:
    """Claim a generation, say nothing and complete it; return the attempt's number."""
    with spool.produce(CHAT, generation_id, wait=wait) as out:
        return out.attempt


def take_over(spool: Spool, generation_id: str) -> None:
    """Be the newer attempt, as soon as the lease of the older one has ended, and write a whole answer."""
    with spool.produce(CHAT, generation_id, wait=10) as out:
        assert out.attempt == 2
        out.text("new")


def demand_only_the_new_answer(client: Redis, generation_id: str) -> None:
    """Fail unless the older attempt's text ends where the newer attempt begins."""
    log = log_of(client)
    text = [line.event.get("text") for line in of_generation(log, generation_id)]
    assert types_of(log, generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]
    assert text == [None, None, "old", None, "new", None]
    started = [line.event["attempt"] for line in log if line.type == "generation.started"]
    assert started == [1, 2]


def test_a_living_attempt_cannot_be_claimed_from(spool: Spool, client: Redis) -> None:
    """A second claim while the lease lives is refused and writes nothing, however long the attempt is silent."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.id) as out:
        lease = int(generation_field(client, generation.id, "lease") or 0)
        eventually(lambda: int(generation_field(client, generation.id, "lease") or 0) > lease + 1500 * LEASE)
        with pytest.raises(NotClaimed) as refused:
            claim(spool, generation.id)
        assert refused.value.outcome == "held"
        out.text("mine")
    log = log_of(client)
    assert text_of(log, generation.id) == "mine"
    assert len([line for line in log if line.type == "generation.started"]) == 1


def test_of_twenty_that_claim_at_once_one_gets_it(spool: Spool, client: Redis) -> None:
    """The others hear that it is held, or that it has ended."""
    generation = spool.enqueue(CHAT, "hello")
    start = Barrier(20)

    def attempt(_: int) -> str:
        start.wait(10)
        try:
            claim(spool, generation.id)
        except NotClaimed as refused:
            return refused.outcome
        return "claimed"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, range(20)))
    assert outcomes.count("claimed") == 1
    assert set(outcomes) <= {"claimed", "held", "ended"}
    assert types_of(log_of(client), generation.id) == ENDED


def test_wait_waits_for_the_end_of_the_lease(spool: Spool, client: Redis) -> None:
    """A newcomer that may wait gets the generation of a dead worker as attempt 2, without being called again."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.id, LEASE)
    assert claim(spool, generation.id, wait=10) == 2
    events = of_generation(log_of(client), generation.id)
    assert [line.event.get("attempt") for line in events] == [None, 1, 2, None]


def test_wait_too_short_is_held(spool: Spool, client: Redis) -> None:
    """Where the lease outlives the wait, it is not claimed."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.id, 60)
    with pytest.raises(NotClaimed) as refused:
        claim(spool, generation.id, wait=0.6)
    assert refused.value.outcome == "held"


def test_wait_ends_when_the_other_attempt_completes(spool: Spool) -> None:
    """A newcomer that waits learns that there is nothing left to do."""
    generation = spool.enqueue(CHAT, "hello")
    with ThreadPoolExecutor() as pool:
        with spool.produce(CHAT, generation.id) as out:
            newcomer = pool.submit(claim, spool, generation.id, 10)
            out.text("done")
        with pytest.raises(NotClaimed) as refused:
            newcomer.result(timeout=10)
    assert refused.value.outcome == "ended"


async def test_wait_in_an_async_spool(redis_url: str, client: Redis) -> None:
    """It waits without blocking the loop."""
    async with async_spool_for(redis_url, lease=LEASE) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        claim_and_die(client, generation.id, LEASE)
        with pytest.raises(NotClaimed):
            async with spool.produce(CHAT, generation.id):
                pass
        async with spool.produce(CHAT, generation.id, wait=10) as out:
            assert out.attempt == 2


def test_the_older_attempt_is_fenced_at_its_next_write(spool: Spool, lost: Spool, proxy: Proxy, client: Redis) -> None:
    """What it says raises `Fenced`, and nothing of it stands after the newer attempt's beginning."""
    generation = spool.enqueue(CHAT, "hello")

    def old() -> None:
        with lost.produce(CHAT, generation.id) as out:
            say_old_and_get_lost(out, proxy, client)
            take_over(spool, generation.id)
            proxy.accept()
            eventually(lambda: out.text("too late"))

    with pytest.raises(Fenced, match="newer"):
        old()
    demand_only_the_new_answer(client, generation.id)


def test_the_older_attempt_is_fenced_when_it_leaves(spool: Spool, lost: Spool, proxy: Proxy, client: Redis) -> None:
    """One that says no more hears of it at the end of its block; its ending is not written."""
    generation = spool.enqueue(CHAT, "hello")

    def old() -> None:
        with lost.produce(CHAT, generation.id) as out:
            say_old_and_get_lost(out, proxy, client)
            out.text("too late")
            take_over(spool, generation.id)
            proxy.accept()

    with pytest.raises(Fenced):
        old()
    demand_only_the_new_answer(client, generation.id)


def test_an_older_attempt_that_failed_keeps_its_own_error(
    spool: Spool, lost: Spool, proxy: Proxy, client: Redis
) -> None:
    """The body's exception propagates with a note that the ending was not written."""
    generation = spool.enqueue(CHAT, "hello")

    def old() -> None:
        with lost.produce(CHAT, generation.id) as out:
            say_old_and_get_lost(out, proxy, client)
            take_over(spool, generation.id)
            proxy.accept()
            raise KeyError("mine")

    with pytest.raises(KeyError) as raised:
        old()
    assert "replaced by a newer one" in raised.value.__notes__[0]
    demand_only_the_new_answer(client, generation.id)


def say_old_and_get_lost(out: Producer, proxy: Proxy, client: Redis) -> None:
    """Be seen in the log, then lose the connection."""
    out.text("old")
    eventually(lambda: generation_field(client, out.generation_id, "index") == b"1")
    proxy.refuse()


async def test_a_silent_async_attempt_is_cancelled(
    redis_url: str, proxy: Proxy, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task is cancelled while the model is silent, and `Fenced` is what comes out, not the cancellation."""
    cancelled = asyncio.Event()

    async def old(generation_id: str) -> None:
        async with old_spool.produce(CHAT, generation_id) as out:
            out.text("old")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    async with async_spool_for(proxy.url, lease=LEASE) as old_spool, async_spool_for(redis_url, lease=LEASE) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(old(generation.id))
        await asyncio.to_thread(eventually, lambda: generation_field(client, generation.id, "index") == b"1")
        proxy.refuse()
        async with spool.produce(CHAT, generation.id, wait=10) as out:
            out.text("new")
        proxy.accept()
        with pytest.raises(Fenced):
            await asyncio.wait_for(task, 10)
    assert cancelled.is_set()
    assert task.cancelling() == 0
    demand_only_the_new_answer(client, generation.id)
    del task
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def test_a_fenced_attempt_ends_only_itself(spool: Spool, lost: Spool, proxy: Proxy, client: Redis) -> None:
    """Another generation that the same process writes goes on."""
    generation = spool.enqueue(CHAT, "hello")
    other = spool.enqueue(CHAT, "hello", on_active="allow")

    def old(both: Producer) -> None:
        with lost.produce(CHAT, generation.id) as out:
            say_old_and_get_lost(out, proxy, client)
            both.text("and ")
            client.hset(f"cs:{{default/{CHAT}}}:gen:{other.id}", "lease", 2**52)  # nobody wants this one
            take_over(spool, generation.id)
            proxy.accept()

    with lost.produce(CHAT, other.id) as out:
        out.text("on ")
        with pytest.raises(Fenced):
            old(out)
        out.text("on")
    assert text_of(log_of(client), other.id) == "on and on"
    assert ending_of(log_of(client), other.id)["type"] == "generation.completed"


def test_too_many_attempts_end_as_failed(redis_url: str, client: Redis) -> None:
    """A generation that kills its workers is not tried for ever."""
    with spool_for(redis_url, max_attempts=2, lease=LEASE) as spool:
        generation = spool.enqueue(CHAT, "hello")
        assert [claim_and_die(client, generation.id, 0.001), eventually_dies_again(client, generation.id)] == [1, 2]
        with pytest.raises(NotClaimed) as refused:
            claim(spool, generation.id, wait=10)
        assert refused.value.outcome == "failed"
        with pytest.raises(NotClaimed) as again:
            claim(spool, generation.id)
        assert again.value.outcome == "ended"
        assert spool.status(CHAT).active == ()
    ending = ending_of(log_of(client), generation.id)
    assert (ending["type"], ending["code"], ending["retryable"]) == ("generation.failed", "too_many_attempts", True)


def eventually_dies_again(client: Redis, generation_id: str) -> int:
    """Wait for the end of a short lease, then claim and die."""
    eventually(lambda: _lease_is_over(client, generation_id))
    return claim_and_die(client, generation_id, 0.001)


def _lease_is_over(client: Redis, generation_id: str) -> bool:
    seconds, microseconds = client.time()
    return int(generation_field(client, generation_id, "lease") or 0) < seconds * 1000 + microseconds // 1000


@pytest.mark.parametrize("how", ["completed", "failed", "stopped"])
def test_an_ended_generation_cannot_be_claimed(spool: Spool, client: Redis, how: str) -> None:
    """A message that comes a second time is a no-op."""
    generation = spool.enqueue(CHAT, "hello")
    if how == "stopped":
        spool.stop(CHAT, generation.id)
    elif how == "completed":
        claim(spool, generation.id)
    else:
        with pytest.raises(KeyError), spool.produce(CHAT, generation.id):
            raise KeyError
    log = log_of(client)
    with pytest.raises(NotClaimed) as refused:
        claim(spool, generation.id, wait=10)
    assert refused.value.outcome == "ended"
    assert log_of(client) == log
    assert ending_of(log, generation.id)["type"] == f"generation.{how}"


def test_an_unknown_generation_cannot_be_claimed(spool: Spool) -> None:
    """Neither in a chat that exists nor in one that does not."""
    spool.enqueue(CHAT, "hello")
    for chat in (CHAT, "other"):
        with pytest.raises(GenerationNotFound), spool.produce(chat, "unknown"):
            pass


def test_the_model_is_asked_the_same_by_every_attempt(spool: Spool, client: Redis) -> None:
    """The request is kept with the generation, so a second attempt needs nothing from the first."""
    generation = spool.enqueue(CHAT, "hello", model="m", params={"seed": 1})
    claim_and_die(client, generation.id, LEASE)
    with spool.produce(CHAT, generation.id, wait=10) as out:
        assert out.request.messages == ({"role": "user", "content": "hello"},)
        assert (out.request.model, out.request.params) == ("m", {"seed": 1})
    started = [line.event for line in log_of(client) if line.type == "generation.started"]
    assert [(event["attempt"], event["model"]) for event in started] == [(1, "m"), (2, "m")]
