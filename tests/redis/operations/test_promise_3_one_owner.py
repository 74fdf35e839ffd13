"""Promise 3, one owner: a live attempt's generation cannot be claimed, and the next attempt gets the next number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, of_generation, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, claim_and_die, spool_for
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import GenerationNotFound, NotClaimed

LEASE = 0.4
ENDED = ["generation.queued", "generation.started", "generation.completed"]


def claim_and_complete(spool: Spool, generation_id: str, wait: float = 0) -> int:
    """Claim a generation, write nothing and complete it; return the attempt's number."""
    with spool.produce(CHAT, generation_id, wait=wait) as out:
        return out.attempt


def test_a_live_attempts_generation_cannot_be_claimed(redis_url: str, client: Redis) -> None:
    """A second claim during the lease is rejected and writes nothing, however long the attempt is silent."""
    with spool_for(redis_url, lease=3) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            lease = read_generation_field(client, generation.generation_id, "lease")
            eventually(lambda: read_generation_field(client, generation.generation_id, "lease") != lease)
            with pytest.raises(NotClaimed) as refused:
                claim_and_complete(spool, generation.generation_id)
            assert refused.value.outcome == "held"
            out.text("mine")
    log = read_log(client)
    assert text_of(log, generation.generation_id) == "mine"
    assert len([line for line in log if line.type == "generation.started"]) == 1


def test_of_twenty_simultaneous_claims_one_succeeds(spool: Spool, client: Redis) -> None:
    """The others learn that it is held, or that it has ended."""
    generation = spool.enqueue(CHAT, "hello")
    start = Barrier(20)

    def attempt(_: int) -> str:
        start.wait(10)
        try:
            claim_and_complete(spool, generation.generation_id)
        except NotClaimed as refused:
            return refused.outcome
        return "claimed"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, range(20)))
    assert outcomes.count("claimed") == 1
    assert set(outcomes) <= {"claimed", "held", "ended"}
    assert types_of(read_log(client), generation.generation_id) == ENDED


def test_wait_waits_for_the_end_of_the_lease(spool: Spool, client: Redis) -> None:
    """A claim that may wait gets a dead worker's generation as attempt 2, without another call."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.generation_id, LEASE)
    assert claim_and_complete(spool, generation.generation_id, wait=10) == 2
    events = of_generation(read_log(client), generation.generation_id)
    assert [line.event.get("attempt") for line in events] == [None, 1, 2, None]


def test_a_wait_shorter_than_the_lease_is_held(spool: Spool, client: Redis) -> None:
    """The generation is not claimed."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.generation_id, 60)
    with pytest.raises(NotClaimed) as refused:
        claim_and_complete(spool, generation.generation_id, wait=0.6)
    assert refused.value.outcome == "held"


def test_wait_ends_when_the_other_attempt_completes(spool: Spool) -> None:
    """A waiting claim learns that there is nothing left to do."""
    generation = spool.enqueue(CHAT, "hello")
    with ThreadPoolExecutor() as pool:
        with spool.produce(CHAT, generation.generation_id) as out:
            newcomer = pool.submit(claim_and_complete, spool, generation.generation_id, 10)
            out.text("done")
        with pytest.raises(NotClaimed) as refused:
            newcomer.result(timeout=10)
    assert refused.value.outcome == "ended"


async def test_waiting_in_an_async_spool_does_not_block_the_loop(redis_url: str, client: Redis) -> None:
    """It waits for the lease all the same."""
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        claim_and_die(client, generation.generation_id, 1.5)
        with pytest.raises(NotClaimed):
            async with spool.produce(CHAT, generation.generation_id):
                pass
        async with spool.produce(CHAT, generation.generation_id, wait=10) as out:
            assert out.attempt == 2


def test_too_many_attempts_end_as_failed(redis_url: str, client: Redis) -> None:
    """A generation that kills its workers is not retried forever."""
    with spool_for(redis_url, max_attempts=2) as spool:
        generation = spool.enqueue(CHAT, "hello")
        assert [
            claim_and_die(client, generation.generation_id, 0.001),
            claim_and_die_after_the_lease(client, generation.generation_id),
        ] == [1, 2]
        with pytest.raises(NotClaimed) as refused:
            claim_and_complete(spool, generation.generation_id, wait=10)
        assert refused.value.outcome == "failed"
        with pytest.raises(NotClaimed) as again:
            claim_and_complete(spool, generation.generation_id)
        assert again.value.outcome == "ended"
        assert spool.status(CHAT).active == ()
    ending = ending_of(read_log(client), generation.generation_id)
    assert (ending["type"], ending["code"], ending["retryable"]) == ("generation.failed", "too_many_attempts", True)


def claim_and_die_after_the_lease(client: Redis, generation_id: str) -> int:
    """Wait for the end of a short lease, then claim and die."""
    eventually(lambda: _lease_is_over(client, generation_id))
    return claim_and_die(client, generation_id, 0.001)


def _lease_is_over(client: Redis, generation_id: str) -> bool:
    seconds, microseconds = client.time()
    return int(read_generation_field(client, generation_id, "lease") or 0) < seconds * 1000 + microseconds // 1000


@pytest.mark.parametrize("how", ["completed", "failed", "stopped"])
def test_an_ended_generation_cannot_be_claimed(spool: Spool, client: Redis, how: str) -> None:
    """A redelivered message is a no-op."""
    generation = spool.enqueue(CHAT, "hello")
    if how == "stopped":
        spool.stop(CHAT, generation.generation_id)
    elif how == "completed":
        claim_and_complete(spool, generation.generation_id)
    else:
        with pytest.raises(KeyError), spool.produce(CHAT, generation.generation_id):
            raise KeyError
    log = read_log(client)
    with pytest.raises(NotClaimed) as refused:
        claim_and_complete(spool, generation.generation_id, wait=10)
    assert refused.value.outcome == "ended"
    assert read_log(client) == log
    assert ending_of(log, generation.generation_id)["type"] == f"generation.{how}"


def test_an_unknown_generation_cannot_be_claimed(spool: Spool) -> None:
    """Neither in an existing chat nor in an unknown one."""
    spool.enqueue(CHAT, "hello")
    for chat in (CHAT, "other"):
        with pytest.raises(GenerationNotFound), spool.produce(chat, "unknown"):
            pass


def test_every_attempt_gets_the_same_request(spool: Spool, client: Redis) -> None:
    """The request is stored with the generation, so a second attempt needs nothing from the first."""
    generation = spool.enqueue(CHAT, "hello", model="m", params={"seed": 1})
    claim_and_die(client, generation.generation_id, LEASE)
    with spool.produce(CHAT, generation.generation_id, wait=10) as out:
        assert out.request.messages == ({"role": "user", "content": "hello"},)
        assert (out.request.model, out.request.params) == ("m", {"seed": 1})
    started = [line.event for line in read_log(client) if line.type == "generation.started"]
    assert [(event["attempt"], event["model"]) for event in started] == [(1, "m"), (2, "m")]
