"""Promise 4, one ending: every generation has exactly one ending, and it is its last event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, text_of, types_of
from support.chats.spools import append_by_hand, async_spool_for, claim_and_die, spool_for
from support.waiting import eventually

from chunkspool import AsyncSpool, Event, Spool
from chunkspool.errors import Fenced, InvalidInput, NotClaimed, ProviderError, StoreUnavailable
from chunkspool.events import GenerationCompleted, TextDelta
from chunkspool.store.scripts import AppendReply

ROUNDS = 30

FAILURES = {
    "a provider's": (
        ProviderError("rate_limited", "Too many people ask.", retryable=True),
        {"code": "rate_limited", "message": "Too many people ask.", "retryable": True},
    ),
    "any other": (
        KeyError("a secret of ours"),
        {"code": "internal_error", "message": "The worker failed with KeyError.", "retryable": False},
    ),
    "of bad input": (
        InvalidInput("text takes a str"),
        {"code": "internal_error", "message": "The worker failed with InvalidInput.", "retryable": False},
    ),
    "a cancellation": (
        asyncio.CancelledError(),
        {"code": "cancelled", "message": "The worker gave up on the answer.", "retryable": True},
    ),
    "an interrupt": (
        KeyboardInterrupt(),
        {"code": "cancelled", "message": "The worker gave up on the answer.", "retryable": True},
    ),
}


def follow_types(spool: Spool, until: str) -> list[str]:
    """Follow the chat from its beginning; return the event types once there is nothing left to wait for."""
    with spool.subscribe(CHAT, until=until) as entries:
        return [entry.type for entry in entries]


def test_leaving_the_block_completes(spool: Spool, client: Redis) -> None:
    """`generation.completed` has the reason that was given."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("hi")
        assert out.state == "running"
        out.finish("length")
    assert out.state == "completed"
    ending = ending_of(read_log(client), generation.generation_id)
    assert ending == {"type": "generation.completed", "generation": generation.generation_id, "finish_reason": "length"}


def test_a_block_that_writes_nothing_completes(spool: Spool, client: Redis) -> None:
    """An empty answer has an ending, too."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id):
        pass
    assert types_of(read_log(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "generation.completed",
    ]


def fail(spool: Spool, generation_id: str, error: BaseException) -> None:
    """Write something and raise."""
    with spool.produce(CHAT, generation_id) as out:
        out.text("half of it")
        raise error


async def fail_async(spool: AsyncSpool, generation_id: str, error: BaseException) -> None:
    """Do the same in an async block."""
    async with spool.produce(CHAT, generation_id) as out:
        out.text("half of it")
        raise error


@pytest.mark.parametrize(("error", "fields"), FAILURES.values(), ids=FAILURES)
def test_an_exception_is_a_failure(spool: Spool, client: Redis, error: BaseException, fields: dict[str, Any]) -> None:
    """It propagates; readers get `generation.failed` after the text, without secrets of an unknown error."""
    generation = spool.enqueue(CHAT, "hello")

    with pytest.raises(type(error)) as raised:
        fail(spool, generation.generation_id, error)
    assert raised.value is error
    log = read_log(client)
    assert ending_of(log, generation.generation_id) == {
        "type": "generation.failed",
        "generation": generation.generation_id,
        **fields,
    }
    assert text_of(log, generation.generation_id) == "half of it"
    (answer,) = spool.snapshot(CHAT).answers
    assert (answer.state, answer.error_code, answer.error) == ("failed", fields["code"], fields["message"])


@pytest.mark.parametrize(("error", "fields"), FAILURES.values(), ids=FAILURES)
async def test_an_exception_in_an_async_block_is_a_failure(
    redis_url: str, client: Redis, error: BaseException, fields: dict[str, Any]
) -> None:
    """The same for the async spool."""
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        with pytest.raises(type(error)) as raised:
            await fail_async(spool, generation.generation_id, error)
    assert raised.value is error
    assert ending_of(read_log(client), generation.generation_id) == {
        "type": "generation.failed",
        "generation": generation.generation_id,
        **fields,
    }


async def test_a_cancelled_task_fails_and_stays_cancelled(redis_url: str, client: Redis) -> None:
    """Cancelling the task from outside raises the cancellation and writes an ending."""
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        within = asyncio.Event()

        async def produce() -> None:
            async with spool.produce(CHAT, generation.generation_id):
                within.set()
                await asyncio.sleep(60)

        task = asyncio.ensure_future(produce())
        await within.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ending_of(read_log(client), generation.generation_id)["code"] == "cancelled"


async def test_a_timeout_around_the_block_is_a_failure(redis_url: str, client: Redis) -> None:
    """`asyncio.timeout` still raises its TimeoutError."""
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), spool.produce(CHAT, generation.generation_id):
                await asyncio.sleep(60)
    assert ending_of(read_log(client), generation.generation_id)["code"] == "cancelled"


def test_nothing_is_written_after_the_ending(spool: Spool, client: Redis) -> None:
    """Writing after the block, appending by hand and claiming again are all rejected."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("hi")
    log = read_log(client)
    for write in (lambda: out.text("more"), lambda: out.data("n", 1), lambda: out.usage(1, 2)):
        with pytest.raises(Fenced, match="was left"):
            write()
    assert append_as_dead_worker(client, generation.generation_id, 3, "more").outcome == "ended"
    with pytest.raises(NotClaimed), spool.produce(CHAT, generation.generation_id):
        pass
    assert spool.stop(CHAT, generation.generation_id)[0].outcome == "ended"
    assert read_log(client) == log


def append_as_dead_worker(
    client: Redis, generation_id: str, index: int, text: str, *, complete: bool = False
) -> AppendReply:
    """Append as attempt 1, like a worker that was thought to be dead."""
    events: list[Event] = [TextDelta(generation_id=generation_id, text=text)]
    if complete:
        events.append(GenerationCompleted(generation_id=generation_id))
    return append_by_hand(client, generation_id, index, *events, ending="completed" if complete else None, lease=0.4)


def run_at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run all calls at the same moment, each in its thread; return their results."""
    start = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_a_stop_during_completion_has_one_outcome(spool: Spool, client: Redis) -> None:
    """Either the stop was in time and the answer is stopped, or it reports that the answer had ended."""
    outcomes = {stop_during_completion(spool, client) for _ in range(ROUNDS)}
    assert "stopping" in outcomes
    assert outcomes <= {"stopping", "ended"}


def stop_during_completion(spool: Spool, client: Redis) -> str:
    """Stop a generation just as it completes; return the stop's outcome."""
    generation, within = spool.enqueue(CHAT, "hello"), Barrier(2)

    def complete() -> str:
        with spool.produce(CHAT, generation.generation_id) as out:
            within.wait(30)
            out.text("hi")
        return out.state

    def stop() -> str:
        within.wait(30)
        return spool.stop(CHAT, generation.generation_id)[0].outcome

    state, outcome, types = run_at_once(complete, stop, lambda: follow_types(spool, "idle"))
    assert state == ("stopped" if outcome == "stopping" else "completed")
    assert ending_of(read_log(client), generation.generation_id)["type"] == f"generation.{state}"
    assert types[-1] == f"generation.{state}"
    return str(outcome)


def test_a_stop_a_completion_and_a_newer_attempt_at_once_give_one_ending(spool: Spool, client: Redis) -> None:
    """The lease ends, the old worker is alive after all, a new one claims and a user stops: one of them ends it."""
    endings = {race_three_endings(spool, client) for _ in range(ROUNDS)}
    assert endings <= {"generation.completed", "generation.stopped"}
    assert spool.status(CHAT).active == ()


def race_three_endings(spool: Spool, client: Redis) -> str:
    """Start all three at once while readers wait for the ending; return its type."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.generation_id, 0.001)
    eventually(lambda: is_stalled(spool, generation.generation_id), every=0.001)

    def renew() -> None:
        with suppress(NotClaimed, Fenced), spool.produce(CHAT, generation.generation_id) as out:
            out.text("new")

    *_, types, types_until_idle = run_at_once(
        lambda: append_as_dead_worker(client, generation.generation_id, 1, "old", complete=True),
        renew,
        lambda: spool.stop(CHAT, generation.generation_id),
        lambda: follow_types(spool, generation.generation_id),
        lambda: follow_types(spool, "idle"),
    )
    log = read_log(client)
    ending = str(ending_of(log, generation.generation_id)["type"])
    assert types[-1] == types_until_idle[-1] == ending
    assert text_of(log, generation.generation_id) in {"", "old", "new"}
    return ending


def is_stalled(spool: Spool, generation_id: str) -> bool:
    """Tell whether the generation's attempt is dead."""
    status = spool.status(CHAT)
    (lease,) = [one.lease_until or 0 for one in status.generations if one.generation_id == generation_id]
    return lease < status.now


def test_readers_that_come_after_the_ending_do_not_wait(spool: Spool) -> None:
    """Whatever they wait for, and from whatever cursor."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("hi")
    for until in ("idle", generation.generation_id):
        for after in range(5):
            with spool.subscribe(CHAT, after, until=until) as entries:
                assert [entry.seq for entry in entries] == list(range(after + 1, 5))


def test_a_reader_waits_through_the_death_of_a_worker(redis_url: str, client: Redis) -> None:
    """It gets the next attempt's ending."""
    with spool_for(redis_url, lease=0.4) as spool:
        generation = spool.enqueue(CHAT, "hello")
        claim_and_die(client, generation.generation_id, 0.4)
        append_as_dead_worker(client, generation.generation_id, 1, "old")
        with ThreadPoolExecutor() as pool:
            reader = pool.submit(follow_types, spool, "idle")
            with spool.produce(CHAT, generation.generation_id, wait=20) as out:
                out.text("new")
            assert reader.result(30)[-3:] == ["generation.started", "text.delta", "generation.completed"]


def test_a_store_error_has_its_own_code(spool: Spool, client: Redis) -> None:
    """A body that fails because of Redis ends with a code that says so, if the ending can be written."""
    generation = spool.enqueue(CHAT, "hello")
    with pytest.raises(StoreUnavailable), spool.produce(CHAT, generation.generation_id):
        raise StoreUnavailable("of another Redis")
    ending = ending_of(read_log(client), generation.generation_id)
    assert (ending["code"], ending["retryable"]) == ("store_unavailable", True)
