"""Promise 10, nothing leaks: whatever is closed or left holds no connection, subscription, thread or task."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from support.chats.logs import CHAT, read_log, types_of
from support.chats.spools import async_spool_for, settings_for, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import SpoolClosed
from chunkspool.store.keys import stops_channel

PROJECT = Path(__file__).parents[3]
MOST = 12
"""The most connections of one spool at any load: two small pools, two of the hub, two for the stops."""


def list_connections(client: Redis) -> list[dict[str, Any]]:
    """Return the server's clients, except this one."""
    mine = str(client.client_id())
    return [one for one in client.client_list() if one["id"] != mine]


def list_subscriptions(client: Redis) -> list[bytes]:
    """Return the channels with subscribers."""
    return list(client.pubsub_channels())


def list_threads() -> set[threading.Thread]:
    """Return the running threads, except asyncio's own, which end with their loop."""
    return {one for one in threading.enumerate() if not one.name.startswith("asyncio_")}


@pytest.fixture(params=SPOOL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Provide each kind of spool."""
    return str(request.param)


@pytest.fixture
def assert_nothing_leaks(client: Redis) -> Iterator[None]:
    """Start with only the test's own connection, and require the same at the end, for threads, too."""
    for kind in ("normal", "pubsub"):
        client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # left over from other tests
    eventually(lambda: not list_connections(client))
    before = list_threads()
    yield
    eventually(lambda: list_threads() <= before)
    eventually(lambda: not list_connections(client))
    assert list_subscriptions(client) == []


def use_everything(any_spool: BlockingSpool, chat: str) -> None:
    """Use everything a spool offers."""
    made = any_spool.enqueue(chat, "hello")
    assert any_spool.run_producer(chat, made.generation_id, lambda out: out.text("hi")).state == "completed"
    assert any_spool.follow(chat)[-1].type == "generation.completed"
    assert len(any_spool.read(chat)) == 4
    any_spool.enqueue(chat, "hello")
    any_spool.stop(chat)
    any_spool.status(chat)
    any_spool.snapshot(chat)
    any_spool.erase(chat)


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_a_closed_spool_holds_nothing(kind: str, redis_url: str, client: Redis) -> None:
    """Its list_connections to Redis and to the broker are gone, its threads have ended, nobody hears the stops."""
    with open_spool(kind, redis_url) as any_spool:
        use_everything(any_spool, CHAT)
        assert list_connections(client)
        assert dict(client.pubsub_numsub(stops_channel(0))) == {stops_channel(0).encode(): 1}


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_an_unused_spool_holds_nothing(kind: str, redis_url: str, client: Redis) -> None:
    """It has opened no connection, and closing it, once or twice, opens none either."""
    with open_spool(kind, redis_url) as any_spool:
        assert list_connections(client) == []
        any_spool.run(any_spool.spool.aclose()) if kind == "async" else any_spool.spool.close()
        assert list_connections(client) == []


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_connections_do_not_grow(kind: str, redis_url: str, client: Redis) -> None:
    """Fifty rounds, one after the other, use as many as one."""
    with open_spool(kind, redis_url) as any_spool:
        for number in range(50):
            use_everything(any_spool, f"chat-{number}")
        assert len(list_connections(client)) <= MOST


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_many_threads_at_once_use_few_connections(redis_url: str, client: Redis) -> None:
    """Ten threads answer and read repeatedly; afterwards they hold no connection, and no chat is subscribed."""

    def live(number: int) -> None:
        chat = f"chat-{number}"
        made = spool.enqueue(chat, "hello")
        with spool.subscribe(chat) as entries, spool.produce(chat, made.generation_id) as out:
            assert next(entries).type == "generation.queued"
            out.text("hi")

    with spool_for(redis_url) as spool, ThreadPoolExecutor(10) as pool:
        for _ in pool.map(live, range(60)):
            pass
        eventually(lambda: list_subscriptions(client) == [stops_channel(0).encode()])
        assert len(list_connections(client)) <= 2 * 10 + MOST + 1  # the schedule's


@pytest.mark.usefixtures("assert_nothing_leaks")
async def test_cancelled_readers_leave_nothing(redis_url: str, client: Redis) -> None:
    """A web server whose clients hang up at any moment: no subscription stays, and no pool grows."""

    async def read(number: int) -> None:
        async with spool.subscribe(f"chat-{number % 3}", until="forever") as entries:
            async for _ in entries:
                pass

    async with async_spool_for(redis_url) as spool:
        for number in range(3):
            await spool.enqueue(f"chat-{number}", "hello")
        for moment in range(8):
            await cancel_all([asyncio.ensure_future(read(number)) for number in range(60)], 0.02 * moment)
        await asyncio.to_thread(eventually, lambda: list_subscriptions(client) == [], 20)
        assert len(list_connections(client)) <= MOST
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.usefixtures("assert_nothing_leaks")
async def test_cancelled_writers_leave_nothing(redis_url: str, client: Redis) -> None:
    """Whatever they were doing, the spool can be closed, and then there is no task and no connection."""

    async def write(number: int) -> None:
        made = await spool.enqueue(f"chat-{number}", "hello", on_active="allow")
        async with spool.produce(made.chat_id, made.generation_id) as out:
            while True:
                out.text("on and on")
                await asyncio.sleep(0.01)

    async with async_spool_for(redis_url) as spool:
        for moment in range(8):
            await cancel_all([asyncio.ensure_future(write(number)) for number in range(10)], 0.02 * moment)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert client.llen("chunkspool") == sum(client.zcard(key) for key in client.scan_iter("cs:*}:gens"))


async def cancel_all(tasks: list[asyncio.Future[None]], after: float) -> None:
    """Cancel the tasks a little later, and fail unless each ends as cancelled."""
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.exception() for task in tasks if not task.cancelled()] == []


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_a_passed_in_client_and_app_stay_open(redis_url: str, client: Redis) -> None:
    """A spool closes only what it created: the client keeps working, and the app can send its own messages."""
    with Redis.from_url(redis_url) as own, Celery("own", broker=redis_url, set_as_current=False) as app:
        spool = Spool(own, app, settings=settings_for(redis_url))
        with spool:
            made = spool.enqueue(CHAT, "hello")
            with spool.produce(CHAT, made.generation_id) as out:
                out.text("hi")
        eventually(lambda: list_subscriptions(client) == [])
        assert own.ping()
        with app.connection_for_write() as connection:
            app.send_task("own.task", queue="others", connection=connection)
        assert client.llen("others") == 1
    assert types_of(read_log(client), made.generation_id)[-1] == "generation.completed"


def test_every_call_on_a_closed_spool_raises(kind: str, redis_url: str, client: Redis) -> None:
    """For every tenant: it neither reconnects silently nor claims what it cannot write."""
    with open_spool("sync", redis_url) as other, open_spool(kind, redis_url) as any_spool:
        made = other.enqueue(CHAT, "hello")
        tenants = any_spool.for_tenant("acme")
        any_spool.run(any_spool.spool.aclose()) if kind == "async" else any_spool.spool.close()
        before = len(list_connections(client))
        for one in (any_spool, tenants):
            for call in (
                lambda one=one: one.enqueue(CHAT, "hello"),
                lambda one=one: one.read(CHAT),
                lambda one=one: one.stop(CHAT),
                lambda one=one: one.status(CHAT),
                lambda one=one: one.snapshot(CHAT),
                lambda one=one: one.erase(CHAT),
                lambda one=one: one.follow(CHAT),
                lambda one=one: one.run_producer(CHAT, made.generation_id, repr),
                lambda one=one: one.revoke(made.generation_id),
            ):
                with pytest.raises(SpoolClosed, match="the spool was closed"):
                    call()
        assert len(list_connections(client)) == before
        assert types_of(read_log(client), made.generation_id) == ["generation.queued"]


@pytest.mark.usefixtures("assert_nothing_leaks")
def test_closing_a_spool_ends_its_producers(redis_url: str) -> None:
    """A producer's thread does not wait for a flusher that has ended."""
    spool, writing = spool_for(redis_url), threading.Event()
    made = spool.enqueue(CHAT, "hello")

    def write() -> None:
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("hi")
            writing.set()
            eventually(lambda: out.text("on and on"), 30)

    with ThreadPoolExecutor() as pool:
        written = pool.submit(write)
        assert writing.wait(30)
        spool.close()
        assert isinstance(written.exception(30), SpoolClosed)


PROGRAM = """
import asyncio, sys
from chunkspool import AsyncSpool, Spool

def main(url):
    with Spool.from_url(url) as spool:
        made = spool.enqueue("sync", "hello")
        with spool.subscribe("sync") as entries, spool.produce("sync", made.generation_id) as out:
            out.text("hi")
            print(next(entries).type)
        spool.stop("sync")
        spool.erase("sync")

async def async_main(url):
    async with AsyncSpool.from_url(url) as spool:
        made = await spool.enqueue("async", "hello")
        async with spool.subscribe("async") as entries, spool.produce("async", made.generation_id) as out:
            out.text("hi")
            print((await anext(entries)).type)
        reading = asyncio.Event()
        reader = asyncio.ensure_future(read(spool, reading))
        await reading.wait()
        reader.cancel()
        await asyncio.wait({reader})
        await spool.erase("async")

async def read(spool, reading):
    async with spool.subscribe("async", until="forever") as entries:
        async for _ in entries:
            reading.set()

main(sys.argv[1])
asyncio.run(async_main(sys.argv[1]))
"""


def test_a_clean_program_ends_without_warnings(redis_url: str) -> None:
    """A program that closes what it opened causes no warning about sockets, loops or tasks."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-X", "dev", "-W", "default", "-c", PROGRAM, redis_url],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["message"] * 2
    ours = [line for line in done.stderr.splitlines() if "Warning" in line or "never" in line or "destroyed" in line]
    assert [line for line in ours if "DeprecationWarning" not in line] == []


def test_both_kinds_of_spools_are_tested(redis_url: str) -> None:
    """The tests above really used a sync and an async spool."""
    for kind, expected in zip(SPOOL_KINDS, (Spool, AsyncSpool), strict=True):
        with open_spool(kind, redis_url) as any_spool:
            assert type(any_spool.spool) is expected
