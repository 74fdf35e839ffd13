"""Promise 5, stop means stop: durable, idempotent and acknowledged by an event, whenever it is requested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Barrier, Event

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, text_of, types_of
from support.chats.spools import async_spool_for, claim_and_die
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import ChatNotFound, GenerationNotFound, NotClaimed, Stopped
from chunkspool.results import Stop

ROUNDS = 30


def wait_until_in_log(client: Redis, generation_id: str, text: str) -> None:
    """Wait until the text is in the log."""
    eventually(lambda: text in text_of(read_log(client), generation_id))


def assert_stopped(client: Redis, generation_id: str, by: str = "user", reason: str | None = None) -> None:
    """Fail unless this stop is the generation's only ending and its last event."""
    assert ending_of(read_log(client), generation_id) == {
        "type": "generation.stopped",
        "generation": generation_id,
        "by": by,
        "reason": reason,
    }


def test_a_queued_generation_ends_at_once(spool: Spool, client: Redis) -> None:
    """Its readers learn at once, and a worker that gets the message later has nothing to do."""
    generation = spool.enqueue(CHAT, "hello")
    assert spool.stop(CHAT, generation.generation_id, reason="changed my mind") == (
        Stop(generation.generation_id, "stopped"),
    )
    assert_stopped(client, generation.generation_id, reason="changed my mind")
    with pytest.raises(NotClaimed) as refused, spool.produce(CHAT, generation.generation_id):
        pass
    assert refused.value.outcome == "ended"
    assert types_of(read_log(client), generation.generation_id) == ["generation.queued", "generation.stopped"]
    assert spool.status(CHAT).active == ()
    assert spool.enqueue(CHAT, "again").after == 2, "the chat is free for the next one"


def test_a_generation_whose_worker_has_died_ends_at_once(spool: Spool, client: Redis) -> None:
    """There is no live attempt to ask."""
    generation = spool.enqueue(CHAT, "hello")
    claim_and_die(client, generation.generation_id, 0.001)
    eventually(lambda: spool.stop(CHAT, generation.generation_id)[0].outcome in {"stopped", "ended"})
    assert_stopped(client, generation.generation_id)


def test_a_stop_while_text_flows(spool: Spool, client: Redis) -> None:
    """The model's loop gets `Stopped`, the block suppresses it, and nothing is stored after the stop."""
    generation = spool.enqueue(CHAT, "hello")
    closed = False
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("before")
        wait_until_in_log(client, generation.generation_id, "before")
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
    assert_stopped(client, generation.generation_id, reason="enough")
    assert text_of(read_log(client), generation.generation_id).startswith("before")


async def model_that_falls_silent(connection: dict[str, bool]) -> AsyncIterator[str]:
    """Yield a word, then nothing forever; record whether the connection is open."""
    connection["open"] = True
    try:
        yield "before"
        await asyncio.sleep(3600)
    finally:
        connection["open"] = False


async def pump(spool: AsyncSpool, generation_id: str, connection: dict[str, bool]) -> Producer:
    """Write what such a model yields."""
    async with spool.produce(CHAT, generation_id) as out, aclosing(model_that_falls_silent(connection)) as pieces:
        async for piece in pieces:
            out.text(piece)
    return out


async def test_a_stop_while_the_model_is_silent(redis_url: str, client: Redis) -> None:
    """The model's connection is closed, and the task continues after the block, not cancelled."""
    connection: dict[str, bool] = {}
    async with async_spool_for(redis_url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        task = asyncio.ensure_future(pump(spool, generation.generation_id, connection))
        await asyncio.to_thread(wait_until_in_log, client, generation.generation_id, "before")
        assert connection == {"open": True}
        assert await spool.stop(CHAT, generation.generation_id) == (Stop(generation.generation_id, "stopping"),)
        out = await asyncio.wait_for(task, 30)
    assert connection == {"open": False}
    assert (out.state, task.cancelling()) == ("stopped", 0)
    assert_stopped(client, generation.generation_id)
    assert text_of(read_log(client), generation.generation_id) == "before"


def test_a_stop_is_acknowledged_by_an_event(spool: Spool) -> None:
    """A reader that follows sees the stop and then ends."""
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


def test_a_repeated_stop_is_one_stop(spool: Spool, client: Redis) -> None:
    """The generation is first stopping, then ended; the first stop's reason is kept."""
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
    assert_stopped(client, generation.generation_id, reason="first")


def test_twenty_simultaneous_stops_are_one_stop(spool: Spool, client: Redis) -> None:
    """There is one `generation.stopped`, with one of the reasons."""
    generation = spool.enqueue(CHAT, "hello")
    with spool.produce(CHAT, generation.generation_id) as out, ThreadPoolExecutor(20) as pool:
        reasons = [f"reason {number}" for number in range(20)]
        stops = pool.map(lambda reason: spool.stop(CHAT, generation.generation_id, reason=reason), reasons)
        assert {stop.outcome for (stop,) in stops} <= {"stopping", "ended"}
        eventually(lambda: out.text("more"))
    assert ending_of(read_log(client), generation.generation_id)["reason"] in reasons


def test_a_stop_during_the_claim_has_one_outcome(spool: Spool, client: Redis) -> None:
    """If it is first, the model never runs; if not, the model is stopped. There is nothing in between."""
    outcomes = {stop_during_claim(spool, client) for _ in range(ROUNDS)}
    assert outcomes <= {("stopped", False), ("stopping", True)}


def stop_during_claim(spool: Spool, client: Redis) -> tuple[str, bool]:
    """Stop a generation just as it is claimed; return the outcome and whether the model ran."""
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
    assert_stopped(client, generation.generation_id)
    return outcome


def test_a_stop_without_a_generation_stops_all_active_ones(spool: Spool, client: Redis) -> None:
    """Running and queued ones; ended generations and other chats are untouched."""
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
        assert_stopped(client, one.generation_id, reason="all")
    assert ending_of(read_log(client), done.generation_id)["type"] == "generation.completed"
    assert spool.status("other").active == (elsewhere.generation_id,)
    assert spool.stop(CHAT) == ()


def test_only_the_requested_generation_is_stopped(spool: Spool, client: Redis) -> None:
    """Others written by the same process continue."""
    one, two = (spool.enqueue(CHAT, "x", on_active="allow") for _ in range(2))
    with spool.produce(CHAT, two.generation_id) as other:
        with spool.produce(CHAT, one.generation_id) as out:
            spool.stop(CHAT, one.generation_id)
            eventually(lambda: out.text("more"))
        other.text("unharmed")
    assert (out.state, other.state) == ("stopped", "completed")
    assert text_of(read_log(client), two.generation_id) == "unharmed"


def test_unknown_chats_and_generations_cannot_be_stopped(spool: Spool) -> None:
    """Such a call is an error, not a stop."""
    with pytest.raises(ChatNotFound):
        spool.stop("nowhere")
    with pytest.raises(GenerationNotFound):
        spool.stop("nowhere", "nothing")
    spool.enqueue(CHAT, "x")
    with pytest.raises(GenerationNotFound):
        spool.stop(CHAT, "nothing")
    assert spool.revoke("nothing") is None


def test_an_enqueue_that_replaces_stops_what_is_active(spool: Spool, client: Redis) -> None:
    """Queued ones at once, running ones on request; the old answer's reader sees who did it."""
    queued = spool.enqueue(CHAT, "x")
    running = spool.enqueue(CHAT, "y", on_active="replace")
    assert_stopped(client, queued.generation_id, by="replace")
    with spool.produce(CHAT, running.generation_id) as out:
        newest = spool.enqueue(CHAT, "z", on_active="replace")
        eventually(lambda: out.text("more"))
    assert_stopped(client, running.generation_id, by="replace")
    assert spool.status(CHAT).active == (newest.generation_id,)


def test_a_revoke_is_a_stop(spool: Spool, client: Redis) -> None:
    """The task id is enough, whatever the chat and tenant; whoever asked first is named."""
    other = spool.for_tenant("other")
    queued = other.enqueue("chat-of-other", "x")
    assert spool.revoke(queued.generation_id) == Stop(queued.generation_id, "stopped")
    assert other.snapshot("chat-of-other").answers[0].stopped_by == "revoke"
    running = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, running.generation_id) as out:
        assert spool.revoke(running.generation_id) == Stop(running.generation_id, "stopping")
        spool.stop(CHAT, running.generation_id, reason="me, too")
        eventually(lambda: out.text("more"))
    assert_stopped(client, running.generation_id, by="revoke")


def test_an_error_after_the_stop_is_raised_but_the_ending_is_the_stop(spool: Spool, client: Redis) -> None:
    """An acknowledged stop is the ending, whatever the model's code does with it."""
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
    assert_stopped(client, generation.generation_id)


async def test_a_task_that_is_cancelled_as_well_stays_cancelled(redis_url: str, client: Redis) -> None:
    """The block suppresses only the stop's own cancellation."""
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
        await asyncio.to_thread(eventually, lambda: len(read_log(client)) == 2)
        await spool.stop(CHAT, generation.generation_id)
        await asyncio.wait_for(hears.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert_stopped(client, generation.generation_id)
