"""Slots: so many calls at a time; the others wait, and one that is cancelled or gives up while it waits holds none."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import BlockingConnectionPool, Redis
from redis.asyncio import Redis as AsyncRedis
from support.waiting import eventually

from chunkspool.errors import StoreBusy
from chunkspool.reading.pubsub import share_of
from chunkspool.store import slots
from chunkspool.store.slots import AsyncSlots, Slots, Turns, calls_at_once


def test_calls_leave_connections_to_the_others() -> None:
    """To readers, flusher and stop listener; of a pool however small, one call at a time gets on."""
    assert calls_at_once(Redis()) == calls_at_once(AsyncRedis()) == 93
    assert calls_at_once(Redis(connection_pool=BlockingConnectionPool(max_connections=20))) == 13
    assert calls_at_once(Redis(max_connections=1)) == 1
    for most in range(7, 200):
        client = Redis(max_connections=most)
        assert calls_at_once(client) + share_of(client) + 2 <= most


def test_threads_wait_their_turn() -> None:
    """Never more than two at a time, and all come through."""
    two, inside, most = Slots(2), list[int](), list[int]()

    def call(number: int) -> None:
        with two.take():
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(call, range(500)))
    assert len(most) == 500
    assert max(most) <= 2


def test_who_has_waited_longest_is_next() -> None:
    """Also where the one that gives its slot back asks for another at once: nobody starves behind it."""
    one, order = Slots(1), list[int]()
    turns = one._turns.get()  # noqa: SLF001 - nothing else tells how many wait

    def call(number: int) -> None:
        with one.take():
            order.append(number)

    with ThreadPoolExecutor(20) as pool:
        with one.take():
            for number in range(20):
                pool.submit(call, number)
                eventually(lambda waiting=number + 1: len(turns._waiting) == waiting)  # noqa: SLF001 - the same
        for _ in range(20):
            with one.take():
                order.append(-1)
    assert [number for number in order if number >= 0] == list(range(20))
    assert order[:20] == list(range(20))


def test_a_turn_that_comes_as_one_gives_up_is_not_lost() -> None:
    """Whichever is first: the one that waits has it, or it is free."""
    for _ in range(200):
        turns = Turns(1)
        assert turns.acquire(1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(turns.acquire, 0.001)
            time.sleep(0.001)
            turns.release()
            if waiting.result(10):
                turns.release()
        assert turns.acquire(0.001)


def test_a_thread_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time; the slot is there for the next one."""
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    one = Slots(1)
    with one.take(), ThreadPoolExecutor() as pool:

        def wait() -> None:
            with one.take():
                raise AssertionError

        with pytest.raises(StoreBusy):
            pool.submit(wait).result(10)
    with one.take():
        pass


def test_a_forked_child_begins_with_all_slots() -> None:
    """Those that the parent's threads held at that moment would never be given back."""
    one, held, done = Slots(1), threading.Event(), threading.Event()

    def hold() -> None:
        with one.take():
            held.set()
            done.wait(30)

    holding = threading.Thread(target=hold)
    holding.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        with one.take():
            os._exit(0)
    done.set()
    holding.join()
    assert os.waitpid(child, 0)[1] == 0


async def test_tasks_wait_their_turn() -> None:
    """Never more than two at a time, and all come through, first come first served."""
    two, inside, order = AsyncSlots(2), list[int](), list[int]()

    async def call(number: int) -> None:
        async with two.take():
            inside.append(number)
            assert len(inside) <= 2
            await asyncio.sleep(0)
            inside.remove(number)
            order.append(number)

    await asyncio.gather(*(call(number) for number in range(500)))
    assert order == list(range(500))


async def test_cancelled_waiters_leak_nothing() -> None:
    """Whenever they are cancelled: while they wait, just when they get the slot, or while they have it."""
    for moment in range(12):
        two = AsyncSlots(2)

        async def call(two: AsyncSlots = two) -> None:
            async with two.take():
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(call()) for _ in range(20)]
        for _ in range(moment):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)
        assert [task.exception() for task in tasks if not task.cancelled()].count(None) >= 10
        async with asyncio.timeout(1), two.take(), two.take():
            pass


async def test_a_task_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time; the slot is there for the next one."""
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    one = AsyncSlots(1)
    async with one.take():
        with pytest.raises(StoreBusy):
            async with one.take():
                raise AssertionError
    async with one.take():
        pass


def test_another_loop_begins_with_all_slots() -> None:
    """What a loop that has ended still held is no slot of the next one."""
    one = AsyncSlots(1)

    async def hold() -> None:
        held = one.take()
        await held.__aenter__()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), one.take():
                raise AssertionError

    for _ in range(2):
        asyncio.run(hold())
