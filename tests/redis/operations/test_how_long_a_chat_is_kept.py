"""For how long a chat is kept: which TTL wins, and chats that are pinned."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import spool_for
from support.chats.steps import run_until, sweep
from support.servers.contents import find_keys_containing
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatNotFound, InvalidRequest, LimitExceeded
from chunkspool.operations import keeping
from chunkspool.store.client import Store
from chunkspool.store.keeping import KEPT_AT_ONCE, PINNED_MS
from chunkspool.store.keys import PINS_DUE, ChatKeys, TenantKeys

MEMBER = f"default {CHAT}"
HOUR = 3600
PINNED = TenantKeys("default").pinned


def say(spool: Spool, chat: str = CHAT, **options: object) -> str:
    """Ask and answer; return the generation's id."""
    made = spool.enqueue(chat, "Really?", **options)  # type: ignore[arg-type]
    with spool.produce(chat, made.generation_id) as out:
        out.text("Yes.")
    return made.generation_id


def seconds_of(client: Redis, key: str = KEYS.log) -> int:
    """Return for how long a key is kept; fail unless it has a TTL."""
    left = client.pttl(key)
    assert left > 0, key
    return round(left / 1000)


def test_the_most_specific_ttl_wins(spool: Spool, client: Redis) -> None:
    """That of a question, else that of its chat, else that of its tenant, else the setting's."""
    say(spool, "setting")
    spool.set_policy(ttl=2000)
    say(spool, "tenant")
    say(spool, "chat")
    spool.keep("chat", 3000)
    newest = say(spool, "chat")
    say(spool, "question", ttl=4000)
    kept = {
        chat: seconds_of(client, ChatKeys("default", chat).log) for chat in ("setting", "tenant", "chat", "question")
    }
    assert kept == {"setting": 600, "tenant": 2000, "chat": 3000, "question": 4000}
    assert seconds_of(client, ChatKeys("default", "chat").gen(newest)) == 3000
    say(spool, "chat", ttl=5000)
    assert seconds_of(client, ChatKeys("default", "chat").log) == 5000
    assert spool.status("chat").ttl == 3000


@pytest.mark.parametrize("ttl", [60, 50 * HOUR])
def test_a_chats_ttl_holds_for_what_is_there(spool: Spool, client: Redis, ttl: int) -> None:
    """Shorter or longer: the log, every generation, what was asked with a request id, and the digest."""
    first = say(spool, ttl=HOUR, request_id="r1")
    ids = [first, *(say(spool) for _ in range(KEPT_AT_ONCE + 1))]
    spool.keep(CHAT, ttl)
    for key in (KEYS.log, KEYS.gens, KEYS.request("r1"), *map(KEYS.gen, ids)):
        assert abs(seconds_of(client, key) - ttl) <= 2, key
    assert seconds_of(client, KEYS.seq) > 7 * 24 * HOUR
    status = spool.status(CHAT)
    assert abs((status.expires or 0) - status.now - ttl * 1000) < 5000
    assert len(status.generations) == len(ids)
    until = client.zscore("cs:{index}:sizes_until:default", CHAT)
    assert until is None or abs(until - (status.expires or 0)) < 5000


def test_what_runs_is_kept_for_as_long_when_it_has_ended(spool: Spool, client: Redis) -> None:
    """Also where it was asked with another TTL."""
    made = spool.enqueue(CHAT, "x", ttl=HOUR)
    with spool.produce(CHAT, made.generation_id) as out:
        out.text("x")
        spool.keep(CHAT, 50 * HOUR)
    assert abs(seconds_of(client) - 50 * HOUR) < 5
    assert abs(seconds_of(client, KEYS.gen(made.generation_id)) - 50 * HOUR) < 5


def test_a_ttl_is_a_time_and_a_chat_is_there(spool: Spool) -> None:
    """What is neither is an error, and leaves nothing."""
    with pytest.raises(InvalidRequest):
        spool.keep(CHAT, 0)
    with pytest.raises(ChatNotFound):
        spool.keep(CHAT, 60)
    spool.set_policy(pinned=1)
    for call in (spool.pin, spool.unpin):
        with pytest.raises(ChatNotFound):
            call(CHAT)
    assert spool.stats().pinned == 0


def test_only_as_many_are_pinned_as_the_policy_allows(redis_url: str, client: Redis) -> None:
    """By default none; one that is pinned may be pinned again; what is unpinned or erased makes room."""
    with spool_for(redis_url) as spool:
        for chat in ("a", "b"):
            say(spool, chat)
        with pytest.raises(LimitExceeded) as refused:
            spool.pin("a")
        assert (refused.value.limit, "allows no pinned chats" in str(refused.value)) == ("pinned", True)
        spool.set_policy(pinned=1)
        spool.pin("a")
        spool.pin("a")
        with pytest.raises(LimitExceeded, match="1 chats are pinned"):
            spool.pin("b")
        assert not spool.status("b").pinned
        spool.unpin("a")
        spool.pin("b")
        spool.erase("b")
        spool.pin("a")
        assert client.zrange(PINNED, 0, -1) == [b"a"]
    with spool_for(redis_url, max_pinned=5, tenant="other") as other:
        say(other, "a")
        other.pin("a")
        assert other.stats().pinned == 2


def test_a_pinned_chat_is_kept_whatever_is_asked(spool: Spool, client: Redis) -> None:
    """All its keys, the lists that name it, and what is asked later with a TTL of its own; people are told."""
    spool.set_policy(pinned=1)
    ids = [say(spool, ttl=60, owner="ada") for _ in range(3)]
    spool.set_title(CHAT, "Precious")
    spool.pin(CHAT)
    ids.append(say(spool, ttl=60))
    for key in (KEYS.log, KEYS.title, KEYS.gens, *map(KEYS.gen, ids)):
        assert abs(seconds_of(client, key) * 1000 - PINNED_MS) < 10_000, key
    for key in (PINS_DUE, PINNED, "cs:{index}:chats:default", *client.keys("cs:{index}:chats:default/*")):
        assert client.pttl(key) >= PINNED_MS - 10_000
    assert spool.status(CHAT).pinned
    assert [one.pinned for one in spool.chats("ada").chats] == [True]
    assert spool.stats().pinned == 1
    spool.keep(CHAT, 120)  # for the time when it is unpinned
    assert seconds_of(client) > 24 * HOUR
    spool.unpin(CHAT)
    assert abs(seconds_of(client) - 120) <= 2
    assert not spool.status(CHAT).pinned
    assert not client.exists(PINS_DUE, PINNED)


def test_the_sweep_renews_what_is_pinned(spool: Spool, client: Redis) -> None:
    """By its index, when a third of the time is over; then it is not due for as long."""
    spool.set_policy(pinned=1)
    generation_id = say(spool)
    spool.pin(CHAT)
    for key in (KEYS.log, KEYS.gens, KEYS.gen(generation_id), PINNED):
        client.expire(key, 1000)
    sweep(spool, client)
    assert seconds_of(client) <= 1000  # it was not due
    client.zadd(PINS_DUE, {MEMBER: 1})
    sweep(spool, client)
    for key in (KEYS.log, KEYS.gens, KEYS.gen(generation_id), PINNED):
        assert seconds_of(client, key) > 24 * HOUR, key
    assert (client.zscore(PINS_DUE, MEMBER) or 0) > 1


def test_a_pin_outlives_the_loss_of_a_head(spool: Spool, client: Redis) -> None:
    """Evicted: the index knows of it."""
    spool.set_policy(pinned=1)
    say(spool)
    spool.pin(CHAT)
    client.delete(KEYS.head)
    client.zadd(PINS_DUE, {MEMBER: 1})
    sweep(spool, client)
    assert spool.status(CHAT).pinned


def test_where_nobody_sweeps_a_pinned_chat_expires(spool: Spool, client: Redis) -> None:
    """Its place is free then, and a new chat of this id is not pinned."""
    spool.set_policy(pinned=1)
    say(spool)
    spool.pin(CHAT)
    client.delete(KEYS.log, KEYS.gens)
    say(spool)
    assert not spool.status(CHAT).pinned
    assert seconds_of(client) == 600
    client.zadd(PINS_DUE, {MEMBER: 1})
    sweep(spool, client)
    assert spool.stats().pinned == 0


@pytest.mark.parametrize("what", ["pin", "unpin"])
def test_whoever_dies_leaves_nothing_half_pinned(spool: Spool, client: Redis, what: str) -> None:
    """Before each of its steps: after the next sweep, the chat and the index say the same, and the keys do, too."""
    spool.set_policy(pinned=1)
    at, died = 0, True
    while died:
        spool.erase(CHAT)
        for _ in range(2):
            say(spool)
        if what == "unpin":
            spool.pin(CHAT)
        operation = keeping.pin if what == "pin" else keeping.unpin
        died = run_until(Store(client), operation(KEYS, spool.settings), at)
        if client.exists(PINS_DUE):
            client.zadd(PINS_DUE, {MEMBER: 1}, xx=True)
        sweep(spool, client)
        pinned = spool.status(CHAT).pinned
        assert pinned == (spool.stats().pinned == 1)
        assert (seconds_of(client) > 24 * HOUR) == pinned
        at += 1
    assert at > 3
    assert pinned == (what == "pin")


def test_an_erase_forgets_that_it_was_pinned(spool: Spool, client: Redis) -> None:
    """Its id stands nowhere."""
    spool.set_policy(pinned=1, keep_events=1)
    secret = "unmistakable"
    say(spool, secret)
    spool.pin(secret)
    eventually(lambda: client.exists("cs:{index}:retention_due") == 1)
    spool.erase(secret)
    spool.sweep()
    left = [key for key in find_keys_containing(client, secret) if key.startswith("cs:")]
    assert left == []
