"""Promise 10, nothing leaks: what is closed or left holds no connection, no subscription, no thread and no task."""

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
from support.chats.logs import CHAT, log_of, types_of
from support.chats.spools import async_spool_for, settings_for, spool_for
from support.readers.blocking_spool import FACES, Face, face_for
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import SpoolClosed
from chunkspool.store.keys import STOPS

PROJECT = Path(__file__).parents[3]
MOST = 12
"""Connections of one spool, however many came and went: two pools of a few, the hub's two, two for the stops."""


def connections(client: Redis) -> list[dict[str, Any]]:
    """Return the server's clients, save the one that asks."""
    mine = str(client.client_id())
    return [one for one in client.client_list() if one["id"] != mine]


def subscriptions(client: Redis) -> list[bytes]:
    """Return the channels that somebody hears."""
    return list(client.pubsub_channels())


def threads() -> set[threading.Thread]:
    """Return the threads that run, save asyncio's own, which end with their loop."""
    return {one for one in threading.enumerate() if not one.name.startswith("asyncio_")}


@pytest.fixture(params=FACES)
def kind(request: pytest.FixtureRequest) -> str:
    """Give the name of each face."""
    return str(request.param)


@pytest.fixture
def nothing_before(client: Redis) -> Iterator[None]:
    """Begin with no connection but the test's, and demand the same at the end, of threads too."""
    for kind in ("normal", "pubsub"):
        client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # what other tests have left
    eventually(lambda: not connections(client))
    before = threads()
    yield
    eventually(lambda: threads() <= before)
    eventually(lambda: not connections(client))
    assert subscriptions(client) == []


def whole_life(face: Face, chat: str) -> None:
    """Do all that a spool can do."""
    made = face.enqueue(chat, "hello")
    assert face.produced(chat, made.generation_id, lambda out: out.text("hi")).state == "completed"
    assert face.entries(chat)[-1].type == "generation.completed"
    assert len(face.read(chat)) == 4
    face.enqueue(chat, "hello")
    face.stop(chat)
    face.status(chat)
    face.snapshot(chat)
    face.erase(chat)


@pytest.mark.usefixtures("nothing_before")
def test_a_closed_spool_holds_nothing(kind: str, redis_url: str, client: Redis) -> None:
    """Its connections to Redis and to the broker are gone, its threads have ended, nobody hears the stops."""
    with face_for(kind, redis_url) as face:
        whole_life(face, CHAT)
        assert connections(client)
        assert dict(client.pubsub_numsub(STOPS)) == {STOPS.encode(): 1}


@pytest.mark.usefixtures("nothing_before")
def test_a_spool_that_did_nothing_holds_nothing(kind: str, redis_url: str, client: Redis) -> None:
    """It has connected nothing, and closing it, once or twice, connects nothing either."""
    with face_for(kind, redis_url) as face:
        assert connections(client) == []
        face.run(face.spool.aclose()) if kind == "async" else face.spool.close()
        assert connections(client) == []


@pytest.mark.usefixtures("nothing_before")
def test_connections_do_not_grow(kind: str, redis_url: str, client: Redis) -> None:
    """Fifty lives, one after the other, take what one takes."""
    with face_for(kind, redis_url) as face:
        for number in range(50):
            whole_life(face, f"chat-{number}")
        assert len(connections(client)) <= MOST


@pytest.mark.usefixtures("nothing_before")
def test_many_threads_at_once_take_few_connections(redis_url: str, client: Redis) -> None:
    """Ten threads answer and read, again and again; what they took is theirs no longer, and no chat is subscribed."""

    def live(number: int) -> None:
        chat = f"chat-{number}"
        made = spool.enqueue(chat, "hello")
        with spool.subscribe(chat) as entries, spool.produce(chat, made.generation_id) as out:
            assert next(entries).type == "generation.queued"
            out.text("hi")

    with spool_for(redis_url) as spool, ThreadPoolExecutor(10) as pool:
        for _ in pool.map(live, range(60)):
            pass
        eventually(lambda: subscriptions(client) == [STOPS.encode()])
        assert len(connections(client)) <= 2 * 10 + MOST


@pytest.mark.usefixtures("nothing_before")
async def test_readers_that_are_cancelled_leave_nothing(redis_url: str, client: Redis) -> None:
    """A web server whose clients hang up, at whichever moment: no subscription, and no pool that grows."""

    async def read(number: int) -> None:
        async with spool.subscribe(f"chat-{number % 3}", until="forever") as entries:
            async for _ in entries:
                pass

    async with async_spool_for(redis_url) as spool:
        for number in range(3):
            await spool.enqueue(f"chat-{number}", "hello")
        for moment in range(8):
            await cancelled([asyncio.ensure_future(read(number)) for number in range(60)], 0.02 * moment)
        await asyncio.to_thread(eventually, lambda: subscriptions(client) == [], 20)
        assert len(connections(client)) <= MOST
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.usefixtures("nothing_before")
async def test_writers_that_are_cancelled_leave_nothing(redis_url: str, client: Redis) -> None:
    """Whatever they were about, the spool can be closed, and then there is no task and no connection."""

    async def write(number: int) -> None:
        made = await spool.enqueue(f"chat-{number}", "hello", on_active="allow")
        async with spool.produce(made.chat_id, made.generation_id) as out:
            while True:
                out.text("on and on")
                await asyncio.sleep(0.01)

    async with async_spool_for(redis_url) as spool:
        for moment in range(8):
            await cancelled([asyncio.ensure_future(write(number)) for number in range(10)], 0.02 * moment)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert client.llen("chunkspool") == sum(client.zcard(key) for key in client.scan_iter("cs:*}:gens"))


async def cancelled(tasks: list[asyncio.Future[None]], after: float) -> None:
    """Cancel the tasks some time later, and demand that each of them ends as cancelled."""
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.exception() for task in tasks if not task.cancelled()] == []


@pytest.mark.usefixtures("nothing_before")
def test_what_was_passed_in_stays_its_owners(redis_url: str, client: Redis) -> None:
    """A spool closes what it made itself: a client goes on, and an app sends messages of its own."""
    with Redis.from_url(redis_url) as own, Celery("own", broker=redis_url, set_as_current=False) as app:
        spool = Spool(own, app, settings=settings_for(redis_url))
        with spool:
            made = spool.enqueue(CHAT, "hello")
            with spool.produce(CHAT, made.generation_id) as out:
                out.text("hi")
        eventually(lambda: subscriptions(client) == [])
        assert own.ping()
        with app.connection_for_write() as connection:
            app.send_task("own.task", queue="others", connection=connection)
        assert client.llen("others") == 1
    assert types_of(log_of(client), made.generation_id)[-1] == "generation.completed"


def test_a_closed_spool_says_so(kind: str, redis_url: str, client: Redis) -> None:
    """Whatever is called, and by whichever tenant: it does not quietly connect anew, nor claim what it cannot write."""
    with face_for("sync", redis_url) as other, face_for(kind, redis_url) as face:
        made = other.enqueue(CHAT, "hello")
        tenants = face.for_tenant("acme")
        face.run(face.spool.aclose()) if kind == "async" else face.spool.close()
        before = len(connections(client))
        for one in (face, tenants):
            for call in (
                lambda one=one: one.enqueue(CHAT, "hello"),
                lambda one=one: one.read(CHAT),
                lambda one=one: one.stop(CHAT),
                lambda one=one: one.status(CHAT),
                lambda one=one: one.snapshot(CHAT),
                lambda one=one: one.erase(CHAT),
                lambda one=one: one.entries(CHAT),
                lambda one=one: one.produced(CHAT, made.generation_id, repr),
                lambda one=one: one.revoke(made.generation_id),
            ):
                with pytest.raises(SpoolClosed, match="the spool was closed"):
                    call()
        assert len(connections(client)) == before
        assert types_of(log_of(client), made.generation_id) == ["generation.queued"]


@pytest.mark.usefixtures("nothing_before")
def test_a_producer_whose_spool_is_closed_is_told(redis_url: str) -> None:
    """Its thread does not wait for a flusher that has ended."""
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


def test_no_warning_is_left_unsaid(redis_url: str) -> None:
    """A program that closes what it opened ends without a word about sockets, loops or tasks."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-X", "dev", "-W", "default", "-c", PROGRAM, redis_url],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["generation.queued"] * 2
    ours = [line for line in done.stderr.splitlines() if "Warning" in line or "never" in line or "destroyed" in line]
    assert [line for line in ours if "DeprecationWarning" not in line] == []


def test_faces_are_what_they_are_called(redis_url: str) -> None:
    """The tests above have had both."""
    for kind, expected in zip(FACES, (Spool, AsyncSpool), strict=True):
        with face_for(kind, redis_url) as face:
            assert type(face.spool) is expected
