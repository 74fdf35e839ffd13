"""Promise 5, stop means stop: durable, idempotent, acknowledged by an event, whenever it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Barrier, Event

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, log_of, text_of, types_of
from support.chats.spools import async_spool_for, claim_and_die
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import ChatNotFound, GenerationNotFound, NotClaimed, Stopped
from chunkspool.results import Stop

ROUNDS = 30


def is_in_log(client: Redis, generation_id: str, text: str) -> None:
    """Wait until the text stands in the log."""
    eventually(lambda: text in text_of(log_of(client), generation_id))


def demand_stopped(client: Redis, generation_id: str, by: str = "user", reason: str | None = None) -> None:
    """Fail unless the generation's only ending, and last event, is this stop."""
    assert ending_of(log_of(client), generation_id) == {
        "type": "generation.stopped",
        "generation": generation_id,
        "by": by,
        "reason": reason,
    }


def test_a_queued_generation_ends_at_once(spool: Spool, client: Redis) -> None:
    """Its readers are told at once, and a worker that finds the message later has nothing to do."""
    generation = spool.enqueue(CHAT, "hello")
    assert spool.stop(CHAT, generation.generation_id, reason="changed my mind") == (
        Stop(generation.generation_id, "stopped"),
    )
    demand_stopped(client, generation.generation_id, reason="changed my mind")
    with pytest.raises(NotClaimed) as refused, spool.produce(CHAT, generation.generation_id):
        pass
    assert refused.value.outcome == "ended"
    assert types_of(log_of(client), generation.generation_id) == ["generation.queued", "generation.stopped"]
    assert spool.status(CHAT).active == ()
    assert spool.enqueue(CHAT, "again").after == 2, "the chat is free for the next one"


def test_a_generation_whose_worker_has_died_ends_at_once(spool: Spool, client: Redis) -> None:
    """No living attempt has to be asked."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.generation_id, 0.001)
    eventually(lambda: spool.stop(CHAT, generation.generation_id)[0].outcome in {"stopped", "ended"})
    demand_stopped(client, generation.generation_id)


def test_while_text_flows(spool: Spool, client: Redis) -> None:
    """The model's loop gets `Stopped`, the block keeps it to itself, and nothing stands behind the stop."""
    generation = spool.enqueue(CHAT, "hello")
    closed = False
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("before")
        is_in_log(client, generation.generation_id, "before")
        assert spool.stop(CHAT, generation.generation_id, reason="enough") == (
            Stop(generation.generation_id, "stopping"),
        )
        try:
            eventually(lambda: out.text("more"))
        except Stopped:
            closed = True
            raise
    assert closed
    assert out.state == "stopped"
    demand_stopped(client, generation.generation_id, reason="enough")
    assert text_of(log_of(client), generation.generation_id).startswith("before")


async def model_that_falls_silent(connection: dict[str, bool]) -> AsyncIterator[str]:
    """Say a word, then nothing for ever; note whether the connection is open."""
    connection["open"] = True
    try:
        yield "before"
        await asyncio.sleep(3600)
    finally:
        connection["open"] = False


async def pump(spool: AsyncSpool, generation_id: str, connection: dict[str, bool]) -> Producer:
    """Write what such a model says."""
    async with spool.produce(CHAT, generation_id) as out, aclosing(model_that_falls_silent(connection)) as pieces:
        async for piece in pieces:
            out.text(piece)
    return out


async def test_while_the_model_is_silent(redis_url: str, client: Redis) -> None:
    """The model's connection is closed, and the task goes on behind the block, not cancelled."""
    connection: dict[str, bool] = {}
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(pump(spool, generation.generation_id, connection))
        await asyncio.to_thread(is_in_log, client, generation.generation_id, "before")
        assert connection == {"open": True}
        assert await spool.stop(CHAT, generation.generation_id) == (Stop(generation.generation_id, "stopping"),)
        out = await asyncio.wait_for(task, 30)
    assert connection == {"open": False}
    assert (out.state, task.cancelling()) == ("stopped", 0)
    demand_stopped(client, generation.generation_id)
    assert text_of(log_of(client), generation.generation_id) == "before"


def test_it_is_acknowledged_by_an_event(spool: Spool) -> None:
    """A reader who follows sees the stop, and that is the end of what it waits for."""
    generation = spool.enqueue(CHAT, "hello")
    following, went_on = Event(), Event()

    def follow() -> str:
        with spool.subscribe(CHAT) as entries:
            types = []
            for entry in entries:
                types.append(entry.type)
                following.set()
        return types[-1]

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(follow)
        with spool.produce(CHAT, generation.generation_id) as out:
            assert following.wait(10)
            spool.stop(CHAT, generation.generation_id)
            eventually(lambda: out.text("more"))
            went_on.set()
        assert reader.result(30) == "generation.stopped"
    assert not went_on.is_set(), "the loop is left by `Stopped`"


def test_a_stop_that_is_repeated_is_one_stop(spool: Spool, client: Redis) -> None:
    """While it is under way it is asked again, afterwards it has ended; the first one's reason stands."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out:
        for reason in ("first", "second", "third"):
            assert spool.stop(CHAT, generation.generation_id, reason=reason) == (
                Stop(generation.generation_id, "stopping"),
            )
        assert spool.status(CHAT).generations[0].stop_asked
        eventually(lambda: out.text("more"))
    for _ in range(3):
        assert spool.stop(CHAT, generation.generation_id, reason="late") == (Stop(generation.generation_id, "ended"),)
    demand_stopped(client, generation.generation_id, reason="first")


def test_of_twenty_who_stop_at_once_one_is_the_first(spool: Spool, client: Redis) -> None:
    """One `generation.stopped`, with one of the reasons."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out, ThreadPoolExecutor(20) as pool:
        reasons = [f"reason {number}" for number in range(20)]
        stops = pool.map(lambda reason: spool.stop(CHAT, generation.generation_id, reason=reason), reasons)
        assert {stop.outcome for (stop,) in stops} <= {"stopping", "ended"}
        eventually(lambda: out.text("more"))
    assert ending_of(log_of(client), generation.generation_id)["reason"] in reasons


def test_a_stop_that_meets_the_claim(spool: Spool, client: Redis) -> None:
    """Before it, the model is never run; after it, it is stopped; in between is nothing."""
    outcomes = {stop_meets_claim(spool, client) for _ in range(ROUNDS)}
    assert outcomes <= {("stopped", False), ("stopping", True)}


def stop_meets_claim(spool: Spool, client: Redis) -> tuple[str, bool]:
    """Stop a generation in the moment in which it is claimed; return the outcome and whether the model was run."""
    generation, start = spool.enqueue(CHAT, "hello"), Barrier(2)

    def run() -> bool:
        start.wait(30)
        try:
            with spool.produce(CHAT, generation.generation_id) as out:
                eventually(lambda: out.text("more"))
        except NotClaimed:
            return False
        return True

    def stop() -> str:
        start.wait(30)
        return spool.stop(CHAT, generation.generation_id)[0].outcome

    with ThreadPoolExecutor(2) as pool:
        ran, stopped = pool.submit(run), pool.submit(stop)
        outcome = stopped.result(30), ran.result(30)
    demand_stopped(client, generation.generation_id)
    return outcome


def test_without_a_generation_all_that_are_active_are_stopped(spool: Spool, client: Redis) -> None:
    """Running and queued ones; what has ended stays as it is, and no other chat is touched."""
    done = spool.enqueue(CHAT, "done")
    with spool.produce(CHAT, done.generation_id):
        pass
    running, queued = (spool.enqueue(CHAT, "x", on_active="allow") for _ in range(2))
    elsewhere = spool.enqueue("other", "x")
    with spool.produce(CHAT, running.generation_id) as out:
        assert spool.stop(CHAT, reason="all") == (
            Stop(running.generation_id, "stopping"),
            Stop(queued.generation_id, "stopped"),
        )
        eventually(lambda: out.text("more"))
    for one in (running, queued):
        demand_stopped(client, one.generation_id, reason="all")
    assert ending_of(log_of(client), done.generation_id)["type"] == "generation.completed"
    assert spool.status("other").active == (elsewhere.generation_id,)
    assert spool.stop(CHAT) == ()


def test_one_of_several_is_stopped(spool: Spool, client: Redis) -> None:
    """What else the same process writes goes on."""
    one, two = (spool.enqueue(CHAT, "x", on_active="allow") for _ in range(2))
    with spool.produce(CHAT, two.generation_id) as other:
        with spool.produce(CHAT, one.generation_id) as out:
            spool.stop(CHAT, one.generation_id)
            eventually(lambda: out.text("more"))
        other.text("unharmed")
    assert (out.state, other.state) == ("stopped", "completed")
    assert text_of(log_of(client), two.generation_id) == "unharmed"


def test_what_is_not_there_cannot_be_stopped(spool: Spool) -> None:
    """A chat or a generation that does not exist is an error, not a stop."""
    with pytest.raises(ChatNotFound):
        spool.stop("nowhere")
    with pytest.raises(GenerationNotFound):
        spool.stop("nowhere", "nothing")
    spool.enqueue(CHAT, "x")
    with pytest.raises(GenerationNotFound):
        spool.stop(CHAT, "nothing")
    assert spool.revoke("nothing") is None


def test_an_enqueue_that_replaces_stops_what_is_active(spool: Spool, client: Redis) -> None:
    """Queued ones at once, running ones by asking; the reader of the old answer sees who did it."""
    queued = spool.enqueue(CHAT, "x")
    running = spool.enqueue(CHAT, "y", on_active="replace")
    demand_stopped(client, queued.generation_id, by="replace")
    with spool.produce(CHAT, running.generation_id) as out:
        newest = spool.enqueue(CHAT, "z", on_active="replace")
        eventually(lambda: out.text("more"))
    demand_stopped(client, running.generation_id, by="replace")
    assert spool.status(CHAT).active == (newest.generation_id,)


def test_a_revoke_is_a_stop(spool: Spool, client: Redis) -> None:
    """By the task's id alone, whichever chat and tenant it is of; who asked first is named."""
    other = spool.for_tenant("other")
    queued = other.enqueue("chat-of-other", "x")
    assert spool.revoke(queued.generation_id) == Stop(queued.generation_id, "stopped")
    assert other.snapshot("chat-of-other").answers[0].stopped_by == "revoke"
    running = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, running.generation_id) as out:
        assert spool.revoke(running.generation_id) == Stop(running.generation_id, "stopping")
        spool.stop(CHAT, running.generation_id, reason="me, too")
        eventually(lambda: out.text("more"))
    demand_stopped(client, running.generation_id, by="revoke")


def test_an_error_after_the_stop_is_raised_but_the_ending_is_the_stop(spool: Spool, client: Redis) -> None:
    """A stop that was acknowledged is the ending, whatever the model's code makes of it."""
    generation = spool.enqueue(CHAT, "x")

    def produce() -> None:
        with spool.produce(CHAT, generation.generation_id) as out:
            spool.stop(CHAT, generation.generation_id)
            try:
                eventually(lambda: out.text("more"))
            except Stopped:
                raise KeyError("while closing") from None

    with pytest.raises(KeyError):
        produce()
    demand_stopped(client, generation.generation_id)


async def test_a_task_that_is_cancelled_as_well_stays_cancelled(redis_url: str, client: Redis) -> None:
    """Only the stop's own cancellation is kept in the block."""
    hears = asyncio.Event()

    async def produce() -> None:
        async with spool.produce(CHAT, generation.generation_id):
            try:
                await asyncio.sleep(3600)
            finally:
                hears.set()
                await asyncio.sleep(3600)

    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(produce())
        await asyncio.to_thread(eventually, lambda: len(log_of(client)) == 2)
        await spool.stop(CHAT, generation.generation_id)
        await asyncio.wait_for(hears.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    demand_stopped(client, generation.generation_id)
