"""Limits of a tenant, its owners and its chats: exact whoever asks at once, and never stuck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.servers.contents import list_keys, read_contents
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatBusy, InvalidInput, LimitExceeded
from chunkspool.policy import LIMITS, Policy
from chunkspool.store.keys import QueueKeys, TenantKeys, place_of

INDEX = QueueKeys("chunkspool")


def refused(spool: Spool, chat_id: str, **options: object) -> LimitExceeded:
    """Ask and return the limit that is met."""
    with pytest.raises(LimitExceeded) as error:
        spool.enqueue(chat_id, "x", **options)  # type: ignore[arg-type]
    return error.value


def test_queued_is_exact_under_races(spool: Spool, client: Redis) -> None:
    """Of forty that ask at once, as many get in as may wait; a refused one leaves nothing."""
    spool.set_policy(queued=7)

    def ask(n: int) -> bool:
        with suppress(LimitExceeded):
            spool.enqueue(f"chat-{n}", "x")
            return True
        return False

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(ask, range(40))) == 7
    assert client.zcard(INDEX.unfinished) == 7
    before = read_contents(client)
    error = refused(spool, "one-more")
    assert (error.limit, error.retry_after) == ("queued", 1.0)
    assert read_contents(client) == before


def test_what_runs_or_ended_is_no_longer_queued(spool: Spool) -> None:
    """A place is free as soon as a worker has claimed one, or one was stopped."""
    spool.set_policy(queued=2)
    first = spool.enqueue("first", "x")
    spool.enqueue("second", "x")
    refused(spool, "third")
    with spool.produce("first", first.generation_id):
        eventually(lambda: _gets_in(spool, "third"))
        refused(spool, "fourth")
    spool.stop("second")
    spool.enqueue("fourth", "x")


def _gets_in(spool: Spool, chat_id: str) -> bool:
    with suppress(LimitExceeded):
        spool.enqueue(chat_id, "x", request_id="once")
        return True
    return False


def test_a_count_heals_after_a_kill(spool: Spool, client: Redis) -> None:
    """Members whose process died before it took them out are found when the limit is met, not only by the sweep."""
    spool.set_policy(queued=2)
    made = [spool.enqueue(f"chat-{n}", "x") for n in range(2)]
    refused(spool, "third")
    client.zrem(INDEX.unfinished, *(f"default {one.chat_id} {one.generation_id}" for one in made))
    spool.enqueue("third", "x")
    # Nothing of it is known any more at all.
    client.delete(*(place_of(one.generation_id) for one in made))
    client.zadd(TenantKeys("default").active, {f"default lost-{n} {made[0].generation_id}": 0 for n in range(2)})
    spool.enqueue("fourth", "x")


def test_owners_have_limits_of_their_own(spool: Spool) -> None:
    """One owner's waiting generations keep no colleague out."""
    spool.set_policy(owner_queued=2)
    for n in range(2):
        spool.enqueue(f"mine-{n}", "x", owner="me")
    assert refused(spool, "mine-3", owner="me").limit == "owner_queued"
    spool.enqueue("yours", "x", owner="you")
    spool.enqueue("nobodys", "x")


def test_requests_per_minute_are_a_rate(spool: Spool, client: Redis) -> None:
    """A whole minute's requests at once, then one each time one is due; the error says when."""
    spool.set_policy(per_minute=5)
    for n in range(5):
        spool.enqueue(f"chat-{n}", "x")
    error = refused(spool, "one-more")
    assert error.limit == "per_minute"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 12
    rates = list(client.scan_iter(match="cs:{index}:rate:*"))
    assert all(0 < client.pttl(key) <= 80_000 for key in rates)
    client.delete(*rates)  # as if a minute had passed
    spool.enqueue("one-more", "x")


def test_a_clock_that_was_set_back_stops_nobody(spool: Spool, client: Redis) -> None:
    """What a rate has noted lies an hour and a half ahead then: it counts no more, and the rate begins anew."""
    spool.set_policy(per_minute=2, owner_per_minute=2, chat_per_minute=2, active=10)
    asked = {"owner": "me", "on_active": "allow"}
    for _ in range(2):
        spool.enqueue(CHAT, "x", **asked)  # type: ignore[arg-type]
    assert refused(spool, CHAT, **asked).limit == "chat_per_minute"
    rates = list(client.scan_iter(match="cs:{index}:rate:*"))
    assert len(rates) == 3
    for key in rates:
        client.set(key, float(client.get(key) or 0) + 5_400_000, px=60_000)
    for _ in range(2):
        spool.enqueue(CHAT, "x", **asked)  # type: ignore[arg-type]
    error = refused(spool, CHAT, **asked)
    assert error.retry_after is not None
    assert error.retry_after <= 31


def test_owners_have_a_rate_of_their_own(spool: Spool) -> None:
    """And no owner's requests count for another."""
    spool.set_policy(owner_per_minute=1)
    spool.enqueue("mine", "x", owner="me")
    assert refused(spool, "mine-2", owner="me").limit == "owner_per_minute"
    spool.enqueue("yours", "x", owner="you")


def test_a_tenant_with_nothing_allowed_gets_nothing(spool: Spool) -> None:
    """0 is a limit, too."""
    for limit in ("queued", "per_minute", "chat_per_minute", "request_bytes"):
        spool.set_policy(**{limit: 0})
        assert refused(spool, CHAT).limit == limit
        spool.set_policy(**{limit: None})
    spool.enqueue(CHAT, "x")


def test_a_full_log_takes_no_more_requests(spool: Spool) -> None:
    """The chat can still be read, stopped and erased, and other chats are as before."""
    spool.set_policy(chat_bytes=20_000)
    made = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, made.generation_id) as out:
        for n in range(300):
            out.data("n", f"{n} {'x' * 100}")
    assert refused(spool, CHAT).limit == "chat_bytes"
    assert refused(spool, CHAT).retry_after is None
    assert len(spool.read(CHAT, limit=1000)) > 300
    spool.enqueue("another", "x")
    spool.erase(CHAT)
    spool.enqueue(CHAT, "x")


def test_a_large_request_meets_the_policy(spool: Spool) -> None:
    """Smaller than the setting allows, but larger than the tenant may."""
    spool.set_policy(request_bytes=2000)
    with pytest.raises(LimitExceeded, match="more bytes than the tenant's may have: shorten it") as refused_one:
        spool.enqueue(CHAT, "x" * 3000)
    assert refused_one.value.limit == "request_bytes"
    spool.enqueue(CHAT, "x")


def test_a_repeated_request_is_no_new_one(spool: Spool) -> None:
    """Whoever repeats what was taken gets it again, even where no more is taken."""
    made = spool.enqueue(CHAT, "x", request_id="mine")
    spool.set_policy(queued=0)
    assert spool.enqueue(CHAT, "x", request_id="mine") == made
    assert refused(spool, CHAT, request_id="another").limit == "queued"


def test_a_refused_request_takes_no_place(spool: Spool) -> None:
    """A busy chat is asked a hundred times: nobody is kept out for it."""
    spool.set_policy(queued=3)
    spool.enqueue(CHAT, "x")
    for _ in range(100):
        with pytest.raises(ChatBusy):
            spool.enqueue(CHAT, "x")
    spool.enqueue("another", "x")


def test_the_policys_ttl_holds_where_the_call_says_nothing(spool: Spool, client: Redis) -> None:
    """A call that names one has that."""
    spool.set_policy(ttl=50)
    spool.enqueue("short", "x")
    spool.enqueue("long", "x", ttl=5000)
    ttls = {name: client.ttl(f"cs:{{default/{name}}}:log") for name in ("short", "long")}
    assert ttls["short"] <= 50 < ttls["long"]


def test_tenants_have_policies_of_their_own(spool: Spool) -> None:
    """What one is allowed says nothing of another, and None gives a limit its default again."""
    a, b = spool.for_tenant("a"), spool.for_tenant("b")
    a.set_policy(queued=5, ttl=3600)
    assert (a.policy().queued, a.policy().ttl) == (5, 3600)
    assert b.policy() == Policy(request_bytes=spool.settings.log.max_request_bytes)
    assert a.set_policy(queued=None).queued == Policy().queued
    assert a.policy().ttl == 3600


def test_another_process_goes_by_a_change_at_once(spool: Spool, redis_url: str) -> None:
    """It stands in Redis alone; nobody keeps a copy."""
    with spool_for(redis_url) as other:
        other.enqueue("first", "x")
        spool.set_policy(queued=0)
        assert refused(other, "second").limit == "queued"


@pytest.mark.parametrize(
    ("name", "value"),
    [("queued", -1), ("queued", 1.5), ("queued", "5"), ("queued", 10**12), ("ttl", 0), ("ttl", float("nan")), ("x", 1)],
)
def test_a_policy_that_makes_no_sense_is_refused(spool: Spool, client: Redis, name: str, value: object) -> None:
    """The error names the limit; nothing was written."""
    with pytest.raises(InvalidInput, match=name):
        spool.set_policy(**{name: value})  # type: ignore[arg-type]
    assert not [key for key in list_keys(client) if ":policy:" in key]


def test_a_policy_that_cannot_be_read_is_none(spool: Spool, client: Redis) -> None:
    """Words where numbers should be, from another program: the defaults hold."""
    client.hset(TenantKeys("default").policy, mapping=dict.fromkeys(LIMITS, "many"))
    client.expire(TenantKeys("default").policy, 60)
    assert spool.policy() == spool.settings.policy
    spool.enqueue(CHAT, "x")


def test_a_chat_has_a_rate_of_its_own(spool: Spool, client: Redis) -> None:
    """Exact whoever asks at once; other chats are as before, and nothing in the key names the chat."""
    spool.set_policy(chat_per_minute=5, active=1000)

    def ask(_: int) -> bool:
        with suppress(LimitExceeded):
            spool.enqueue("secret", "x", on_active="allow")
            return True
        return False

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(20))) == 5
    error = refused(spool, "secret", on_active="allow")
    assert error.limit == "chat_per_minute"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 12
    spool.enqueue("another", "x")
    spool.for_tenant("other").enqueue("secret", "x")
    spool.erase("secret")
    rates = list(client.scan_iter(match="cs:{index}:rate:*"))
    assert not [key for key in rates if b"secret" in key]
    assert all(0 < client.pttl(key) <= 80_000 for key in rates)
    client.delete(*rates)  # as if a minute had passed
    spool.enqueue("secret", "x")
