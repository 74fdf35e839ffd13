"""Promise 10, nothing leaks: every key has a TTL, and expired or erased data is gone to the last byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_generation_field, read_log, text_of
from support.chats.spools import claim_and_die, settings_for, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import find_keys_containing, list_keys, read_contents
from support.waiting import eventually

from chunkspool import Generation, Producer, Spool
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.errors import (
    ChatBusy,
    ChatNotFound,
    ChunkspoolError,
    CursorExpired,
    EnqueueFailed,
    NotClaimed,
)
from chunkspool.spool.dispatch import Dispatcher

TTL = 600
WEEK, DAY = 7 * 86_400, 86_400
TOUCHED_OUTLIVES = 11 * DAY
SHORT, LEASE = 30, 60
"""Seconds: a running generation outlives its ttl by its lease."""
PROMPT, ANSWER, OWNER, REQUEST = "the-prompt", "the-answer", "the-owner", "the-request"


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url, ttl=TTL, lease=0.3, max_attempts=1) as any_spool:
        yield any_spool


def enqueue_everything(any_spool: BlockingSpool, **options: object) -> Generation:
    """Enqueue with a value for every option."""
    made: Generation = any_spool.enqueue(CHAT, PROMPT, request_id=REQUEST, owner=OWNER, **options)
    return made


def complete(any_spool: BlockingSpool, _client: Redis) -> None:
    """Answer."""
    made = enqueue_everything(any_spool)
    any_spool.run_producer(CHAT, made.generation_id, lambda out: (out.text(ANSWER), out.data("a", 1)))


def fail_halfway(any_spool: BlockingSpool, _client: Redis) -> None:
    """Start to answer, then fail."""
    made = enqueue_everything(any_spool)

    def fail(out: Producer) -> None:
        out.text(ANSWER)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_spool.run_producer(CHAT, made.generation_id, fail)


def stop_queued(any_spool: BlockingSpool, _client: Redis) -> None:
    """Stop a queued generation."""
    enqueue_everything(any_spool)
    any_spool.stop(CHAT, reason="enough")


def stop_running(any_spool: BlockingSpool, client: Redis) -> None:
    """Stop a running generation."""
    made = enqueue_everything(any_spool)

    def write(out: Producer) -> None:
        out.text(ANSWER)
        with spool_for(any_spool.settings.log.redis_url) as other:
            other.stop(CHAT)
        eventually(lambda: read_generation_field(client, made.generation_id, "stop"))

    assert any_spool.run_producer(CHAT, made.generation_id, write).state == "stopped"


def replace_active(any_spool: BlockingSpool, _client: Redis) -> None:
    """Replace the active generation."""
    enqueue_everything(any_spool)
    any_spool.enqueue(CHAT, PROMPT, on_active="replace", owner=OWNER)


def get_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """Find the chat busy; the rejected request leaves nothing at all."""
    enqueue_everything(any_spool)
    before = read_contents(client)
    with pytest.raises(ChatBusy):
        any_spool.enqueue(CHAT, PROMPT, request_id="another")
    assert read_contents(client) == before


def repeat_request(any_spool: BlockingSpool, client: Redis) -> None:
    """Repeat the same request, while it is queued and after it was answered."""
    complete(any_spool, client)
    assert enqueue_everything(any_spool) == enqueue_everything(any_spool)


def run_two_at_once(any_spool: BlockingSpool, _client: Redis) -> None:
    """Run two at once: one is stopped, the other continues."""
    first = enqueue_everything(any_spool)
    any_spool.enqueue(CHAT, PROMPT, on_active="allow")
    any_spool.stop(CHAT, first.generation_id)


def fail_to_publish(any_spool: BlockingSpool, _client: Redis) -> None:
    """Enqueue without a broker."""
    broker = f"redis://{LOOPBACK}:{free_port()}/0"
    with (
        open_spool("sync", any_spool.settings.log.redis_url, broker_url=broker, ttl=TTL) as other,
        pytest.raises(EnqueueFailed),
    ):
        enqueue_everything(other)


def die(any_spool: BlockingSpool, client: Redis) -> None:
    """Be claimed by a worker that dies."""
    claim_and_die(client, enqueue_everything(any_spool).generation_id, 60)


def exceed_max_attempts(any_spool: BlockingSpool, client: Redis) -> None:
    """Be claimed once too often."""
    made = enqueue_everything(any_spool)
    claim_and_die(client, made.generation_id, 0.001)
    with pytest.raises(NotClaimed):
        any_spool.run_producer(CHAT, made.generation_id, repr, wait=5)


LIVES = [
    complete,
    fail_halfway,
    stop_queued,
    stop_running,
    replace_active,
    get_rejected,
    repeat_request,
    run_two_at_once,
    fail_to_publish,
    die,
    exceed_max_attempts,
]
Scenario = Callable[[BlockingSpool, Redis], None]
_NO_KEY = -2


def read_ttls(client: Redis) -> dict[str, int]:
    """Return the remaining seconds of each key of the project."""
    ttls = {name: int(client.ttl(name)) for name in list_keys(client)}
    # One that is empty by now is no key any more.
    return {name: left for name, left in ttls.items() if left != _NO_KEY}


@pytest.mark.parametrize("life", LIVES)
def test_every_key_has_a_ttl_and_is_removed_by_an_erase(
    any_spool: BlockingSpool, client: Redis, life: Scenario
) -> None:
    """In every scenario: `ttl` for the chat, a week more for the keys that tell a late reader it is late.

    An erase leaves no byte of prompt, answer, owner, request and ids, except the ids in the queue.
    """
    life(any_spool, client)
    generations = [one.generation_id for one in any_spool.status(CHAT).generations]
    ttls = read_ttls(client)
    assert {KEYS.seq, KEYS.log, KEYS.head, KEYS.gens, *map(KEYS.gen, generations)} <= set(ttls)
    for name, left in ttls.items():
        most = (
            TTL + WEEK
            if name in {KEYS.seq, KEYS.head, KEYS.readers}
            else TTL + TOUCHED_OUTLIVES
            if name.startswith("cs:{index}:touched")
            else WEEK
            if name.startswith("cs:{index}:")
            else TTL
        )
        assert 0 < left <= most, name
        assert left > TTL - 60 or not name.startswith(f"cs:{{default/{CHAT}}}"), name
    any_spool.erase(CHAT)
    for text in (PROMPT, ANSWER, OWNER, REQUEST, f"default/{CHAT}"):
        assert find_keys_containing(client, text) == [], text
    for one in generations:
        assert not [name for name in find_keys_containing(client, one) if name.startswith("cs:")]
    with pytest.raises(ChatNotFound):
        any_spool.status(CHAT)
    any_spool.erase(CHAT)


def test_a_message_of_an_erased_chat_does_nothing(any_spool: BlockingSpool, client: Redis) -> None:
    """The worker that gets it later finds no generation and creates none."""
    made = enqueue_everything(any_spool)
    any_spool.erase(CHAT)
    with pytest.raises(ChunkspoolError, match="or no longer has it"):
        any_spool.run_producer(CHAT, made.generation_id, repr)
    assert any_spool.revoke(made.generation_id) is None
    assert find_keys_containing(client, CHAT) == ["chunkspool"]


def test_a_chat_can_be_erased_while_it_is_written(any_spool: BlockingSpool, client: Redis) -> None:
    """The writer gets an error, and what it writes afterwards is not stored."""
    made = enqueue_everything(any_spool)

    def write(out: Producer) -> None:
        out.text(ANSWER)
        eventually(lambda: read_generation_field(client, made.generation_id, "index"))
        with spool_for(any_spool.settings.log.redis_url) as other:
            other.erase(CHAT)
        eventually(lambda: out.text(ANSWER), 20)

    with pytest.raises(ChunkspoolError, match="it was erased|was stopped"):
        any_spool.run_producer(CHAT, made.generation_id, write)
    assert [name for name in list_keys(client) if CHAT in name or made.generation_id in name] == []
    assert find_keys_containing(client, ANSWER) == []


def test_a_chat_can_be_erased_during_enqueues_and_writes(redis_url: str, client: Redis) -> None:
    """Whoever is faster: once all are done and it is erased again, nothing is left."""
    over = threading.Event()

    def ask(spool: Spool) -> int:
        asked = 0
        while not over.wait(0.005):
            with suppress(ChunkspoolError):
                made = spool.enqueue(CHAT, PROMPT, on_active="allow", request_id=REQUEST, owner=OWNER)
                asked += 1
                with spool.produce(CHAT, made.generation_id) as out:
                    out.text(ANSWER)
        return asked

    def erase(spool: Spool) -> None:
        try:
            for _ in range(60):
                spool.erase(CHAT)
                over.wait(0.01)
        finally:
            over.set()

    with spool_for(redis_url, flush_interval=0.001) as spool, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, spool) for _ in range(3)]
        pool.submit(erase, spool).result(60)
        assert sum(one.result(60) for one in asked) > 0
        spool.erase(CHAT)
    for text in (PROMPT, ANSWER, OWNER, f"default/{CHAT}"):
        assert find_keys_containing(client, text) == [], text
    assert [name for name in list_keys(client) if not name.startswith("cs:{index}:")] == []
    assert [name for name in find_keys_containing(client, CHAT) if name.startswith("cs:")] == []


def test_an_enqueue_interrupted_by_an_erase_leaves_no_key(
    redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased between its two steps, it leaves a message that does nothing."""

    def erase_first(dispatcher: Dispatcher, *generation: str) -> None:
        with spool_for(redis_url) as other:
            other.erase(CHAT)
        publish(dispatcher, *generation)

    publish = Dispatcher.publish
    monkeypatch.setattr(Dispatcher, "publish", erase_first)
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, PROMPT, request_id=REQUEST)
    assert [name for name in find_keys_containing(client, made.generation_id) if name.startswith("cs:")] == []
    assert find_keys_containing(client, PROMPT) == []


def test_expired_data_is_gone(redis_url: str, client: Redis) -> None:
    """After `ttl` seconds prompt and answer are nowhere; a late reader is told, and the chat goes on counting."""
    with open_spool("sync", redis_url, ttl=1) as any_spool:
        complete(any_spool, client)
        last = any_spool.status(CHAT).last
        eventually(lambda: not find_keys_containing(client, PROMPT) and not find_keys_containing(client, ANSWER))
        left = {name for name in list_keys(client) if not name.startswith("cs:{index}:")}
        assert left <= {KEYS.seq, KEYS.head, KEYS.readers}
        assert find_keys_containing(client, OWNER) == find_keys_containing(client, REQUEST) == []
        with pytest.raises(CursorExpired) as expired:
            any_spool.read(CHAT)
        assert (expired.value.first, expired.value.last) == (last + 1, last)
        assert (any_spool.status(CHAT).generations, any_spool.snapshot(CHAT).answers) == ((), ())
        made = enqueue_everything(any_spool)
        assert made.after == last
        assert [entry.seq for entry in any_spool.read(CHAT, last)] == [last + 1]


def test_a_generation_that_never_ran_expires_too(any_spool: BlockingSpool, client: Redis) -> None:
    """It no longer counts as active: no reader waits for it, and the chat is not busy."""
    enqueue_everything(any_spool, ttl=1)
    eventually(lambda: not find_keys_containing(client, PROMPT))
    assert any_spool.status(CHAT).active == ()
    assert any_spool.follow(CHAT, 1) == []
    assert any_spool.enqueue(CHAT, PROMPT).after == 1


def test_of_two_ttls_the_longer_counts(any_spool: BlockingSpool, client: Redis) -> None:
    """A short-lived generation neither removes the log under another one nor hides it from an erase."""
    long = enqueue_everything(any_spool)
    short = any_spool.enqueue(CHAT, PROMPT, on_active="allow", ttl=1)
    any_spool.run_producer(CHAT, short.generation_id, lambda out: out.text("short"))
    eventually(lambda: not client.exists(KEYS.gen(short.generation_id)))
    assert any_spool.status(CHAT).active == (long.generation_id,)
    any_spool.run_producer(CHAT, long.generation_id, lambda out: out.text(ANSWER))
    log = read_log(client)
    assert text_of(log, long.generation_id) == ANSWER
    assert ending_of(log, long.generation_id)["type"] == "generation.completed"
    other = any_spool.enqueue(CHAT, PROMPT, ttl=1)
    any_spool.stop(CHAT)
    eventually(lambda: not client.exists(KEYS.gen(other.generation_id)))
    any_spool.erase(CHAT)
    assert find_keys_containing(client, PROMPT) == []


def test_a_generation_that_outlives_its_ttl_keeps_its_chat(redis_url: str, client: Redis) -> None:
    """Every write keeps the chat alive."""
    with spool_for(redis_url, ttl=1, lease=0.3) as spool:
        made = spool.enqueue(CHAT, PROMPT)
        began = client.time()[0]
        with spool.produce(CHAT, made.generation_id) as out:
            while client.time()[0] < began + 3:
                eventually(partial(_is_written, client, out, made.generation_id))
        assert len(read_log(client)) > 3


def _is_written(client: Redis, out: Producer, generation_id: str) -> bool:
    index = read_generation_field(client, generation_id, "index")
    out.data("tick", 1)
    eventually(lambda: read_generation_field(client, generation_id, "index") != index)
    return True


def test_a_ttl_of_zero_is_rejected() -> None:
    """Nothing is kept forever, and nothing for no time."""
    for ttl in (0, 0.5, float("inf")):
        with pytest.raises(ChunkspoolError, match="CHUNKSPOOL_TTL"):
            settings_for("redis://host", ttl=ttl)


def test_a_generation_is_listed_for_as_long_as_it_is_kept(redis_url: str, client: Redis) -> None:
    """By the list an erase finds it: after each write, a claim with a lease longer than the ttl as well."""
    kept: list[tuple[str, float, float]] = []

    def note(moment: str) -> None:
        listed = client.zscore(KEYS.gens, made.generation_id)
        assert isinstance(listed, float)
        seconds, micros = client.time()
        now = seconds * 1000 + micros // 1000
        kept.append((moment, listed - now, client.pttl(KEYS.gens)))
        # As a later enqueue does with what has expired: forget it where it is not listed for longer than that.
        client.zremrangebyscore(KEYS.gens, "-inf", now + 1000 * SHORT)

    with spool_for(redis_url, ttl=SHORT, lease=LEASE) as spool:
        made = spool.enqueue(CHAT, PROMPT)
        client.expire(KEYS.gens, 600)
        claim_and_die(client, made.generation_id, lease=LEASE)
        note("claimed")
        assert client.pttl(KEYS.gen(made.generation_id)) > 1000 * SHORT
        client.hset(KEYS.gen(made.generation_id), mapping={"lease": 0})
        with spool.produce(CHAT, made.generation_id) as out:
            client.zrem(KEYS.gens, made.generation_id)
            client.hdel(KEYS.gen(made.generation_id), "touched")
            out.text(ANSWER)
            eventually(lambda: ANSWER in text_of(read_log(client), made.generation_id))
            note("written")
            client.zrem(KEYS.gens, made.generation_id)
        assert client.zscore(KEYS.gens, made.generation_id)
        spool.erase(CHAT)
    for moment, listed, list_kept in kept:
        assert min(listed, list_kept) > 1000 * SHORT, moment
    assert [key for key in list_keys(client) if CHAT in key] == []
