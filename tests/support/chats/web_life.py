"""What a web app does in its life, step by step: whichever step fails, the next one is tried all the same."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from redis import Redis
from support.readers.blocking_spool import BlockingSpool
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, ChunkspoolError
from chunkspool.store.keys import ChatKeys

CHATS = ("asked", "running", "stopped", "queued", "revoked", "erased")


def live(web: BlockingSpool, worker: BlockingSpool) -> Iterator[tuple[str, ChunkspoolError]]:
    """Do everything that a web app does, `worker` answering; yield the steps that failed, with their errors."""
    for name, step in _steps(web, worker):
        try:
            step()
        except ChatNotFound:  # an earlier step has failed
            continue
        except ChunkspoolError as error:
            yield name, error


def _reading(web: BlockingSpool) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "status", lambda: (web.status("asked"), web.status("queued"))
    yield "stats", web.stats
    yield "read", lambda: web.read("asked")
    yield "snapshot", lambda: web.snapshot("asked")
    yield "transcript", lambda: web.transcript("asked")
    yield "mark_read", lambda: (web.mark_read("asked", "tab", 1), web.last_read("asked", "tab"))


def _steps(web: BlockingSpool, worker: BlockingSpool) -> Iterator[tuple[str, Callable[[], object]]]:
    made: dict[str, str] = {}

    def ask(chat: str, **options: object) -> None:
        made[chat] = web.enqueue(chat, "hello", **options).generation_id

    def answer(chat: str) -> None:
        worker.run_producer(chat, made[chat], lambda out: out.text("hi"))

    def replace() -> None:
        newest = web.enqueue("queued", "hello", on_active="replace")
        for _ in range(2):
            ask("queued", on_active="queue", request_id="waits")
        web.stop("queued", newest.generation_id)

    def sweep() -> None:
        for _, error in web.sweep(queue_is_empty=True).failed:
            raise error

    yield "enqueue", lambda: [ask(chat, request_id=f"r-{chat}", transcript=[{"id": 1}]) for chat in CHATS]
    yield "enqueue again", lambda: [ask(chat, request_id=f"r-{chat}", transcript=[{"id": 1}]) for chat in CHATS]
    if "asked" in made:
        yield "answer", lambda: answer("asked")
    yield "subscribe", lambda: web.follow("asked")
    yield "replace, and wait", replace
    yield from _reading(web)
    yield "fork", lambda: web.fork("asked", to="forked")
    yield "stop", lambda: web.stop("stopped")
    if "running" in made:
        # Its worker has claimed it, and has not ended it: the stop waits there.
        yield "stop what runs", lambda: worker.run_producer("running", made["running"], lambda _: web.stop("running"))
    if "revoked" in made:
        yield "revoke", lambda: web.revoke(made["revoked"])
    yield "keep, pin, shorten", lambda: _shorten(web)
    yield "sweep", sweep
    yield "erase", lambda: web.erase("erased")


def _shorten(web: BlockingSpool) -> None:
    web.set_policy(keep_events=1, pinned=1)
    for _ in range(2):
        web.enqueue("long", "hello")
        web.stop("long")
    web.pin("long")
    web.unpin("long")
    web.keep("long", 600)
    for _, error in web.retain().failed:
        raise error
    web.set_policy(keep_events=None, pinned=None)


def follow_two(web: Spool, worker: Spool, admin: Redis) -> Iterator[tuple[str, ChunkspoolError]]:
    """Follow two answers while they are written, and leave one: the hub's connection subscribes and unsubscribes."""
    failed: list[ChunkspoolError] = []

    def follow(generation_id: str) -> None:
        try:
            with web.subscribe("followed", until=generation_id) as entries:
                deque(entries, maxlen=0)
        except ChunkspoolError as error:
            failed.append(error)

    try:
        made = {chat: web.enqueue(chat, "hello").generation_id for chat in ("left", "followed")}
        thread = threading.Thread(target=follow, args=(made["followed"],))
        thread.start()
        try:
            eventually(lambda: failed or _count_readers(admin, "followed"))
            with web.subscribe("left") as left, worker.produce("left", made["left"]) as out:
                out.text("hi")
                next(entry for entry in left if entry.type == "text.delta")
            eventually(lambda: failed or not _count_readers(admin, "left"))
        finally:
            with worker.produce("followed", made["followed"]) as out:
                out.text("hi")
            thread.join()
    except ChunkspoolError as error:
        failed.append(error)
    yield from (("follow", error) for error in failed)


def _count_readers(admin: Redis, chat: str) -> int:
    return int(admin.pubsub_numsub(ChatKeys("default", chat).live)[0][1])
