"""A person who has left something of every kind on a server, and what of it is still to be found there."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from redis import Redis
from support.chats.spools import claim_and_die
from support.readers.blocking_spool import BlockingSpool
from support.servers.contents import find_keys_containing

from chunkspool.errors import ChatBusy
from chunkspool.operations.people import LOOK_MS
from chunkspool.store.erasures import Person
from chunkspool.store.keys import ERASURES, TOUCHED_DUE, ChatKeys
from chunkspool.store.streams import HeldStreams

PERSON = Person("default", "person-4711")
QUESTION, ANSWER, TITLE, REQUEST = "her-very-question", "her-very-answer", "her-very-title", "her-very-request"
HERS = (
    "hers-done",
    "hers-queued",
    "hers-running",
    "hers-stopped",
    "hers-fork",
    "hers-expired",
    "hers-shared",
    "hers-kept",
)
"""The chats in which she has asked, her fork, and the fork that another made of one of them."""
THEIRS = ("theirs-read", "theirs-busy", "theirs-alone")
"""Chats of others, in which she has read, was refused, or never was."""
MARKS = (PERSON.owner, PERSON.hash, QUESTION, ANSWER, TITLE, REQUEST, "hers-")


def answer(spool: BlockingSpool, chat_id: str, text: str = ANSWER, **options: object) -> str:
    """Ask in a chat and answer; return the generation's id."""
    made = spool.enqueue(chat_id, options.pop("prompt", QUESTION), **options)
    spool.run_producer(chat_id, made.generation_id, lambda out: (out.text(text), out.data("said", text)))
    return str(made.generation_id)


def live(spool: BlockingSpool, client: Redis) -> None:
    """Let her leave something of every kind."""
    owner = PERSON.owner
    answer(spool, "hers-done", owner=owner, request_id=REQUEST, transcript=[QUESTION])
    spool.set_title("hers-done", TITLE)
    spool.mark_read("hers-done", owner, 1)
    spool.mark_read("hers-done", "a-device", 1)
    spool.digest("hers-done")
    spool.enqueue("hers-queued", QUESTION, owner=owner, on_active="allow")
    spool.enqueue("hers-queued", QUESTION, owner=owner, on_active="allow")
    running = spool.enqueue("hers-running", QUESTION, owner=owner)
    claim_and_die(client, running.generation_id, 60, ChatKeys("default", "hers-running"))
    spool.enqueue("hers-stopped", QUESTION, owner=owner)
    spool.stop("hers-stopped")
    spool.fork("hers-done", to="hers-fork", owner=owner)
    spool.fork("hers-done", to="hers-kept", owner="another")
    answer(spool, "hers-expired", owner=owner)
    client.delete(ChatKeys("default", "hers-expired").log)
    answer(spool, "hers-shared", owner="another", prompt="a-question")
    answer(spool, "hers-shared", owner=owner)
    spool.mark_read("hers-shared", "another", 1)
    answer(spool, "theirs-read", "an-answer", owner="another", prompt="a-question")
    spool.mark_read("theirs-read", owner, 1)
    spool.mark_read("theirs-read", "another", 2)
    spool.enqueue("theirs-busy", "a-question", owner="another")
    with suppress(ChatBusy):
        spool.enqueue("theirs-busy", QUESTION, owner=owner)
    spool.hold_streams("a-process", [HeldStreams("owner_streams", owner, 1)], version=1, refuses=False)
    answer(spool, "theirs-alone", "an-answer", owner="another", prompt="a-question")
    take_messages(client)


def take_messages(client: Redis) -> None:
    """Take the messages out of the queue, as workers do; they hold ids."""
    client.delete("chunkspool")


def traces_of_her(client: Redis) -> dict[str, list[str]]:
    """Return, for each of her marks, the keys that have it in their name or value."""
    found = {mark: find_keys_containing(client, mark) for mark in MARKS}
    return {mark: keys for mark, keys in found.items() if keys}


def traces_in_files(folder: Path) -> list[tuple[str, str]]:
    """Return which of her marks stand in which files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path.name, mark) for path in files for mark in MARKS if mark.encode() in path.read_bytes()]


def leave_alone(client: Redis) -> None:
    """Let the erasures that are under way be ones whose process has died a while ago."""
    for name in client.zrange(ERASURES, 0, -1):
        client.zadd(ERASURES, {name: 1})


def let_a_day_pass(client: Redis, seconds: float = LOOK_MS / 1000) -> None:
    """Let what people have touched be known for as long as until the sweep looks at it."""
    for key in (TOUCHED_DUE, *client.scan_iter(match="cs:{index}:touched:*", count=1000)):
        for name in client.zrange(key, 0, -1):
            client.zincrby(key, -1000 * seconds, name)


def wait_for_rewrite(client: Redis) -> None:
    """Write the append-only file anew, and wait until it is there."""
    client.bgrewriteaof()
    while client.info("persistence")["aof_rewrite_in_progress"]:
        threading.Event().wait(0.02)
