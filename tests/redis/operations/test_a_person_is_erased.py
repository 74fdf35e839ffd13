"""A person is erased: every chat in which they have asked, and what else there is of them, whatever comes between."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.chats.person import (
    ANSWER,
    HERS,
    MARKS,
    PERSON,
    QUESTION,
    THEIRS,
    answer,
    leave_alone,
    let_a_day_pass,
    live,
    take_messages,
    traces_in_files,
    traces_of_her,
    wait_for_rewrite,
)
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import list_keys
from support.servers.redis_server import embedded_server
from support.waiting import eventually

from chunkspool import Producer, Spool
from chunkspool.effects import Effect, Operation, Pause, SendAll, Tell
from chunkspool.errors import ChatNotFound, ChunkspoolError, InvalidId, StoreFull
from chunkspool.logs.formatters import JsonLines
from chunkspool.operations.erase_owner import erase_owner, go_on_erasing
from chunkspool.operations.people import look_after_people
from chunkspool.results import ErasedOwner
from chunkspool.store import forks
from chunkspool.store.client import Store
from chunkspool.store.keys import ERASURES, ChatKeys, TenantKeys
from chunkspool.store.schedule import hash_of

KEYS = ChatKeys("default", "hers-running")
BEGUN = 2
"""Steps after which an erasure has begun."""
OWNERS = 70
"""More than a chat's `head` has room for."""


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind that keeps messages."""
    with open_spool(request.param, redis_url, keep_messages=True) as opened:
        yield opened


@pytest.fixture
def talk(redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool that keeps messages."""
    with open_spool("sync", redis_url, keep_messages=True) as opened:
        yield opened


def perform(client: Redis, effect: Effect) -> Any:
    """Do what an operation asks for, as a spool does."""
    store = Store(client)
    if isinstance(effect, SendAll):
        return store.send_all(effect.transactions, at_once=False)
    return None if isinstance(effect, Pause | Tell) else store.send(effect)  # type: ignore[arg-type]


def run(client: Redis, operation: Operation[Any], steps: int = 1_000_000) -> bool:
    """Run an operation; die after so many steps. Returns whether it came to its end."""
    try:
        effect = next(operation)
        for _ in range(steps):
            effect = operation.send(perform(client, effect))
    except StopIteration:
        return True
    operation.close()
    return False


def erase(spool: Any) -> ErasedOwner:
    """Erase her."""
    erased: ErasedOwner = spool.erase_owner(PERSON.owner)
    return erased


def test_nothing_of_a_person_stays_on_the_server(tmp_path: Path) -> None:
    """Neither in any key's name or value, nor in the append-only file once it is rewritten: no text, no name, no chat.

    Whether she has asked, forked, read or was refused; whether it was answered, waits, runs, or has expired but for
    what tells a late reader. Others' chats stay as they are.
    """
    with embedded_server(tmp_path, appendonly=True) as server, server.client() as client:
        client.config_set("aof-use-rdb-preamble", "no")
        client.config_set("rdbcompression", "no")
        with open_spool("sync", server.url, keep_messages=True) as spool:
            live(spool, client)
            wait_for_rewrite(client)
            assert set(traces_of_her(client)) == set(MARKS)
            assert {mark for _, mark in traces_in_files(tmp_path)} == set(MARKS)
            before = {chat: spool.read(chat) for chat in THEIRS}
            # She was refused long enough ago for nobody to think that she is about to be let in.
            let_a_day_pass(client, 3600)
            erased = erase(spool)
            assert traces_of_her(client) == {}
            assert {chat: spool.read(chat) for chat in THEIRS} == before
            assert [one.chat_id for one in spool.chats().chats] == [*reversed(THEIRS)]
            assert spool.last_read("theirs-read", "another") == 2
        wait_for_rewrite(client)
        assert traces_in_files(tmp_path / "data") == []
    assert (erased.chats, erased.readings, erased.stopped) == (len(HERS), 1, 3)
    assert (erased.generations, erased.requests, erased.failed) == (8, 1, ())
    assert erased.bytes_removed > 2000
    assert (erased.tenant, erased.owner_hash) == ("default", PERSON.hash)


def test_sync_and_async_erase_the_same(any_spool: BlockingSpool, client: Redis) -> None:
    """And a person of whom nothing is known is erased without a word."""
    live(any_spool, client)
    assert erase(any_spool).chats == len(HERS)
    assert erase(any_spool) == ErasedOwner("default", PERSON.hash)
    assert client.exists(ERASURES) == 0
    with pytest.raises(InvalidId):
        any_spool.erase_owner("no one")


def test_an_erasure_that_was_killed_at_any_step_is_ended_by_the_sweep(talk: BlockingSpool, client: Redis) -> None:
    """Nothing of her is left, and others' chats are."""
    over, step = False, 0
    while not over:
        client.flushall()
        answer(talk, "hers-done", owner=PERSON.owner, request_id="her-very-request")
        talk.enqueue("hers-queued", QUESTION, owner=PERSON.owner)
        answer(talk, "hers-shared", "an-answer", owner="another")
        answer(talk, "hers-shared", owner=PERSON.owner)
        answer(talk, "theirs-read", "an-answer", owner="another", prompt="a-question")
        talk.mark_read("theirs-read", PERSON.owner, 1)
        # Its turn comes once what had ended is noted, and the broker's messages hold ids.
        eventually(lambda: any(b"hers-queued" in one for one in client.lrange("chunkspool", 0, -1)))
        take_messages(client)
        over = run(client, erase_owner("default", PERSON.owner, 0), step)
        if step >= BEGUN:
            leave_alone(client)
            run(client, go_on_erasing(0))
            assert traces_of_her(client) == {}, step
            assert client.exists(ERASURES) == 0
            assert [one.chat_id for one in talk.chats("another").chats] == ["theirs-read"], step
        step += 1
    assert step > 30


def test_an_erasure_that_goes_on_is_left_to_its_process(talk: BlockingSpool, client: Redis) -> None:
    """The sweep takes only what was left; a second call takes the first one's rest and what has come since."""
    live(talk, client)
    run(client, erase_owner("default", PERSON.owner, 0), 20)
    run(client, go_on_erasing(0))
    assert traces_of_her(client)
    answer(talk, "hers-new", owner=PERSON.owner)
    take_messages(client)
    erase(talk)
    assert {mark: keys for mark, keys in traces_of_her(client).items() if mark in {QUESTION, ANSWER, "hers-"}} == {}
    assert client.exists(ERASURES) == 0


def test_a_second_erasure_that_was_killed_is_not_forgotten(talk: BlockingSpool, client: Redis) -> None:
    """It had to end the first one before; the sweep does both."""
    answer(talk, "hers-done", owner=PERSON.owner)
    run(client, erase_owner("default", PERSON.owner, 0), BEGUN)
    answer(talk, "hers-new", owner=PERSON.owner)
    run(client, erase_owner("default", PERSON.owner, 0), BEGUN)
    take_messages(client)
    leave_alone(client)
    run(client, go_on_erasing(0))
    assert traces_of_her(client) == {}


def test_what_is_asked_meanwhile_makes_it_no_longer(talk: BlockingSpool, client: Redis) -> None:
    """She asks again and again: what had been there goes, the erasure ends, and what is new is hers."""
    for n in range(20):
        answer(talk, f"hers-{n}", owner=PERSON.owner)
    done, asked = threading.Event(), 0
    with open_spool("sync", talk.settings.log.redis_url, keep_messages=True) as other:

        def ask() -> None:
            nonlocal asked
            while not done.wait(0.001):
                other.enqueue(f"hers-new-{asked}", "a-new-question", owner=PERSON.owner)
                asked += 1

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            eventually(lambda: asked > 5)
            erased = erase(talk)
        finally:
            done.set()
            thread.join(30)
    assert 20 <= erased.chats <= 20 + asked
    assert not [key for key in list_keys(client) if ANSWER in str(key)]
    left = {one.chat_id for one in talk.chats(PERSON.owner, limit=500).chats}
    assert f"hers-new-{asked - 1}" in left
    assert not left & {f"hers-{n}" for n in range(20)}
    assert {int(name.rpartition("-")[2]) for name in left} == set(range(asked - len(left), asked))
    erase(talk)
    take_messages(client)
    assert traces_of_her(client) == {}


def test_what_is_being_written_is_stopped(any_spool: BlockingSpool, client: Redis) -> None:
    """The worker's attempt ends, and what it says afterwards is not stored."""
    made = any_spool.enqueue("hers-running", QUESTION, owner=PERSON.owner)
    take_messages(client)
    stopped: list[int] = []

    def write(out: Producer) -> None:
        out.text(ANSWER)
        eventually(lambda: ANSWER in str(client.xrange(KEYS.log)))
        with open_spool("sync", any_spool.settings.log.redis_url) as other:
            stopped.append(erase(other).stopped)
        eventually(lambda: out.text(ANSWER), 20)

    with pytest.raises(ChunkspoolError, match="it was erased|was stopped"):
        any_spool.run_producer("hers-running", made.generation_id, write)
    assert stopped == [1]
    eventually(lambda: traces_of_her(client) == {})


@pytest.mark.parametrize("hole", ["list", "head", "head and counter"])
def test_what_the_list_does_not_name_is_erased_too(talk: BlockingSpool, client: Redis, hole: str) -> None:
    """A list is bounded, and leaves out whose log has expired; what tells of the owners may be evicted."""
    made = answer(talk, "hers-done", owner=PERSON.owner)
    keys = ChatKeys("default", "hers-done")
    if hole == "list":
        client.delete(TenantKeys("default").chats(PERSON.hash), TenantKeys("default").chats(None))
    else:
        client.delete(keys.head, *([keys.seq] if "counter" in hole else []))
    assert talk.status("hers-done").generations[0].generation_id == made
    erase(talk)
    take_messages(client)
    assert traces_of_her(client) == {}


def test_of_many_owners_each_is_known(talk: BlockingSpool, client: Redis) -> None:
    """Of the first as of the last, in the chat and in its fork; and an erase takes both out of all their lists."""
    for n in range(OWNERS):
        answer(talk, "many-own-this", owner=f"owner-{n}")
    talk.fork("many-own-this", to="many-own-that")
    talk.fork("many-own-this", to="many-own-more")
    take_messages(client)
    talk.erase("many-own-more")
    assert [key for key in list_keys(client) if "many-own-more" in key] == []
    assert _named(client, "many-own-more") == []
    assert talk.erase_owner("owner-0").chats == 2
    assert _named(client, "many-own") == []
    assert [key for key in list_keys(client) if "many-own" in key or ":touched" in key] == []


def _named(client: Redis, chat: str) -> list[bytes]:
    zsets = [key for key in client.scan_iter(match="cs:{index}:*", count=1000) if client.type(key) == b"zset"]
    return [key for key in zsets if any(chat.encode() in member for member in client.zrange(key, 0, -1))]


def test_a_chat_that_cannot_be_erased_holds_up_no_other(talk: BlockingSpool, client: Redis) -> None:
    """It is named with its error, and the sweep erases it when it is mended."""
    for chat in ("hers-one", "hers-two", "hers-three"):
        answer(talk, chat, owner=PERSON.owner)
    broken = ChatKeys("default", "hers-two")
    client.rename(broken.gens, "elsewhere")
    client.set(broken.gens, "another program's")
    erased = erase(talk)
    ((chat, error),) = erased.failed
    assert (chat, erased.chats) == ("hers-two", 2)
    assert isinstance(error, ChunkspoolError)
    client.rename("elsewhere", broken.gens)
    leave_alone(client)
    talk.sweep(queue_is_empty=True)
    take_messages(client)
    assert traces_of_her(client) == {}


def test_a_full_redis_erases_a_person(tmp_path: Path) -> None:
    """It makes room."""
    with (
        embedded_server(tmp_path) as server,
        server.client() as client,
        open_spool("sync", server.url, keep_messages=True) as spool,
    ):
        live(spool, client)
        let_a_day_pass(client, 3600)
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 200_000)
        with pytest.raises(StoreFull):
            spool.enqueue("another", "a-question")
        erase(spool)
        client.config_set("maxmemory", 0)
        assert traces_of_her(client) == {}


def test_who_was_refused_in_a_chat_does_not_erase_it(talk: BlockingSpool, client: Redis) -> None:
    """Nor who is about to ask in it; if that comes to nothing, the sweep forgets it."""
    talk.enqueue("theirs-busy", "a-question", owner="another")
    touched = TenantKeys("default").touched(PERSON.hash)
    client.zadd(touched, {"theirs-busy": client.time()[0] * 1000, "not-yet": client.time()[0] * 1000})
    assert erase(talk).chats == 0
    assert sorted(client.zrange(touched, 0, -1)) == [b"not-yet", b"theirs-busy"]
    assert talk.status("theirs-busy").active
    answer(talk, "not-yet", owner=PERSON.owner)
    assert erase(talk).chats == 1


def test_a_fork_that_is_made_meanwhile_is_not_made(
    talk: BlockingSpool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied of a person who is being erased does not outlive that."""
    answer(talk, "hers-done", owner=PERSON.owner)
    make = forks.make

    def begin_first(*args: Any, **options: Any) -> Any:
        run(client, erase_owner("default", PERSON.owner, 0), BEGUN)
        return make(*args, **options)

    monkeypatch.setattr(forks, "make", begin_first)
    with pytest.raises(ChatNotFound):
        talk.fork("hers-done", to="hers-fork", owner="another")
    leave_alone(client)
    run(client, go_on_erasing(0))
    take_messages(client)
    assert not {QUESTION, ANSWER, PERSON.owner} & set(traces_of_her(client))
    assert [key for key in list_keys(client) if "{default/hers-" in key] == []


def test_the_index_of_people_forgets_what_is_gone(talk: BlockingSpool, client: Redis) -> None:
    """A chat stays in it as long as anything is left of it, whoever keeps it; and no longer."""
    answer(talk, "hers-done", owner=PERSON.owner, ttl=1)
    answer(talk, "hers-shared", owner=PERSON.owner)
    touched = TenantKeys("default").touched(PERSON.hash)
    let_a_day_pass(client)
    run(client, look_after_people())
    assert client.zcard(touched) == 2
    for key in client.scan_iter(match="cs:{default/hers-done}:*"):
        client.delete(key)
    run(client, look_after_people())
    assert client.zcard(touched) == 2
    let_a_day_pass(client)
    run(client, look_after_people())
    assert client.zrange(touched, 0, -1) == [b"hers-shared"]
    assert client.pttl(touched) > client.pttl(ChatKeys("default", "hers-shared").seq)


def test_the_log_says_what_was_done_and_quotes_nobody(
    spool: Spool, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with the tenant, what stands for the owner, and counts: no name, no text, no chat."""
    spool.enqueue("hers-queued", QUESTION, owner=PERSON.owner)
    with caplog.at_level(logging.INFO, "chunkspool.audit"):
        erase(spool)
    (record,) = [one for one in caplog.records if one.name == "chunkspool.audit"]
    line = JsonLines().format(record)
    said = json.loads(line)["erasure"]
    assert said.pop("bytes_removed") > 0
    assert said == {
        "tenant": "default",
        "owner_hash": hash_of("default", PERSON.owner),
        "chats": 1,
        "generations": 1,
        "requests": 0,
        "readings": 0,
        "stopped": 1,
        "failed": 0,
        "complete": True,
    }
    assert not [mark for mark in MARKS if mark in line and mark != PERSON.hash]
    assert client.exists(ERASURES) == 0
