"""Promise 4: a generation whose message was lost for good also ends; one that only waits long does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_log, types_of
from support.chats.spools import claim_and_die, spool_for
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.effects import drive
from chunkspool.errors import CorruptLog
from chunkspool.operations.sweep import sweep
from chunkspool.store.commands import Transaction
from chunkspool.store.index import as_ms
from chunkspool.store.keys import ChatKeys, QueueKeys

LOST_AFTER = 0.3
INDEX = QueueKeys("chunkspool")


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool for which a generation counts as lost soon."""
    with spool_for(redis_url, lost_after=LOST_AFTER, sweep_interval=0.001) as made:
        yield made


def sweep_until_found(spool: Spool, *, queue_is_empty: bool) -> tuple[str, ...]:
    """Sweep until something was found to be lost: first its message is published again, which does not help."""
    return eventually(lambda: spool.sweep(queue_is_empty=queue_is_empty).lost)


def pretend_a_sweep(client: Redis) -> None:
    """Let it look as if somebody had swept a moment ago."""
    client.set(INDEX.watermark, f"0 {hours(client, 0)}", px=60_000)


def age_of_newest(spool: Spool, chat_id: str) -> float:
    """Return the seconds since the chat's newest generation was enqueued."""
    status = spool.status(chat_id)
    return (status.now - status.generations[-1].created) / 1000


def test_a_generation_whose_message_is_nowhere_fails_as_lost(spool: Spool, client: Redis) -> None:
    """It was queued and the broker lost its data: its reader gets an ending, and the status says why."""
    asked = spool.enqueue(CHAT, "x")
    assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)
    log = read_log(client)
    assert types_of(log, asked.generation_id) == ["generation.queued", "generation.failed"]
    assert ending_of(log, asked.generation_id)["code"] == "lost"
    assert [one.state for one in spool.status(CHAT).generations] == ["lost"]
    with spool.subscribe(CHAT) as entries:
        assert [entry.type for entry in entries] == ["generation.queued", "generation.failed"]


def test_a_dead_attempt_that_nobody_takes_over_fails_as_lost(spool: Spool, client: Redis) -> None:
    """Its worker and its message are both gone; until it is found lost, the status says stalled."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=0.05)
    assert eventually(lambda: spool.status(CHAT).generations[0].state == "stalled")
    assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)
    assert ending_of(read_log(client), asked.generation_id)["code"] == "lost"


def test_a_generation_in_a_long_queue_is_not_lost(spool: Spool) -> None:
    """While messages wait and no later generation was taken, its message is still among them."""
    waiting = spool.enqueue(CHAT, "x")
    eventually(lambda: age_of_newest(spool, CHAT) > LOST_AFTER)
    assert spool.sweep(queue_is_empty=False).lost == ()
    assert spool.status(CHAT).active == (waiting.generation_id,)


def test_an_overtaken_generation_is_lost(spool: Spool, client: Redis) -> None:
    """The queue is never empty, but workers have taken what was enqueued later: no message of it is left.

    Nor is the one left that was published again.
    """
    lost = spool.enqueue("lost", "x")
    taken = spool.enqueue(CHAT, "y")
    claim_and_die(client, taken.generation_id, lease=60)
    eventually(lambda: spool.sweep(queue_is_empty=False).lost or client.zcard(INDEX.republished))
    later = spool.enqueue("later", "y")
    claim_and_die(client, later.generation_id, lease=60, keys=ChatKeys("default", "later"))
    waiting = spool.enqueue("waiting", "z")
    assert sweep_until_found(spool, queue_is_empty=False) == (lost.generation_id,)
    assert spool.status("waiting").active == (waiting.generation_id,)
    assert spool.status(CHAT).active == (taken.generation_id,)


def test_a_live_attempt_is_never_lost(spool: Spool) -> None:
    """It may be silent for any time: its heartbeats are signs of life."""
    asked = spool.enqueue(CHAT, "x")
    other = spool.enqueue("other", "y")
    with spool.produce(CHAT, asked.generation_id) as out:
        assert sweep_until_found(spool, queue_is_empty=True) == (other.generation_id,)
        out.text("still here")
    assert out.state == "completed"


def test_a_lost_generation_ends_with_its_requested_stop(spool: Spool, client: Redis) -> None:
    """An acknowledged stop is the ending, even if the worker that should have written it died."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=2)
    spool.stop(CHAT, reason="enough")
    client.hset(KEYS.gen(asked.generation_id), "lease", 1)
    eventually(lambda: spool.sweep(queue_is_empty=True).lost or not spool.status(CHAT).active)
    assert ending_of(read_log(client), asked.generation_id)["reason"] == "enough"


def test_ended_and_erased_generations_leave_the_index(spool: Spool, client: Redis) -> None:
    """The sweep forgets ended generations; an erase and a rejected enqueue leave nothing in it."""
    spool.enqueue(CHAT, "x")
    spool.stop(CHAT)
    spool.enqueue("erased", "x")
    spool.erase("erased")
    eventually(lambda: spool.sweep(queue_is_empty=True).lost or client.zcard(INDEX.unfinished) == 0)
    assert client.zcard(INDEX.unfinished) == 0


def list_messages(client: Redis) -> list[str]:
    """Return the messages in the broker's queue, newest first."""
    waiting: Any = client.lrange("chunkspool", 0, -1)
    return [json.dumps(json.loads(message)["headers"]) for message in waiting]


def test_a_lost_message_is_republished(redis_url: str, client: Redis) -> None:
    """A worker died right after popping it: it is sent once more, long before the generation counts as lost."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        for tenant in ("one", "two"):
            asked = spool.for_tenant(tenant).enqueue(CHAT, "x")
            client.delete("chunkspool")
            eventually(lambda: spool.sweep(queue_is_empty=True).lost or list_messages(client))
            (message,) = list_messages(client)
            assert asked.generation_id in message
            assert tenant in message
            assert client.zcard(INDEX.republished) == 1
            assert spool.for_tenant(tenant).status(CHAT).active == (asked.generation_id,)
            with spool.for_tenant(tenant).produce(CHAT, asked.generation_id):
                pass
            eventually(lambda: spool.sweep(queue_is_empty=False).lost or not client.zcard(INDEX.republished))


def test_a_republished_message_may_wait_in_the_queue(redis_url: str, client: Redis) -> None:
    """It is queued behind everything enqueued before; until the queue has come that far, it is not lost again."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        lost = spool.enqueue("lost", "x")
        client.delete("chunkspool")
        taken = spool.enqueue(CHAT, "y")
        claim_and_die(client, taken.generation_id, lease=60)
        eventually(lambda: spool.sweep(queue_is_empty=False).lost or len(list_messages(client)) > 1)
        eventually(lambda: age_of_newest(spool, "lost") > 0.5)
        for _ in range(5):
            assert eventually(lambda: not client.exists(INDEX.sweep_lock))
            spool.sweep(queue_is_empty=False)
        newest, _ = list_messages(client)
        assert lost.generation_id in newest


def test_an_older_copy_that_comes_back_during_a_sweep_loses_no_generation(spool: Spool, client: Redis) -> None:
    """The sweep has seen it ended, and is about to forget it, when Redis comes back without the ending."""
    asked = spool.enqueue(CHAT, "x")
    spool.stop(CHAT)

    def perform(effect: Any) -> Any:
        if isinstance(effect, Transaction) and effect.commands[0][0] == "ZREM":
            client.hset(KEYS.gen(asked.generation_id), "status", "queued")
        return spool._perform(effect)  # noqa: SLF001 - a copy that comes back at this moment is rare

    member = KEYS.member(asked.generation_id).encode()
    assert client.zrange(INDEX.unfinished, 0, -1) == [member]
    drive(sweep(spool.settings, queue="chunkspool", queue_is_empty=False, db=0), perform)
    assert client.zrange(INDEX.unfinished, 0, -1) == [member]
    assert client.ttl(INDEX.unfinished) > 0


@pytest.mark.parametrize("stored", ["", " 1"], ids=["reached", "reached and swept"])
def test_a_sweep_remembers_how_far_the_queue_has_come(redis_url: str, client: Redis, stored: str) -> None:
    """What was claimed once tells it, also when that generation has long ended and been forgotten."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        lost = spool.enqueue("lost", "x")
        client.delete("chunkspool")
        taken = spool.enqueue(CHAT, "y")
        with spool.produce(CHAT, taken.generation_id):
            eventually(lambda: spool.sweep(queue_is_empty=False) and client.exists(INDEX.watermark))
            assert int(client.get(INDEX.watermark).split()[0]) > 0
        eventually(lambda: spool.sweep(queue_is_empty=False) and client.zcard(INDEX.unfinished) == 1)
        client.delete("chunkspool")
        # Now, as these sweeps may have published the lost one once more, after the one that was taken.
        reached = as_ms(client.time())
        client.set(INDEX.watermark, f"{reached}{stored}", px=60_000)
        eventually(lambda: spool.sweep(queue_is_empty=False) and list_messages(client))
        assert lost.generation_id in list_messages(client)[0]
        assert int(client.get(INDEX.watermark).split()[0]) == reached


def test_of_many_processes_one_sweeps(redis_url: str, client: Redis) -> None:
    """Within one interval the first does the work and the others do nothing."""
    with spool_for(redis_url, lost_after=0.001, sweep_interval=600) as spool:
        asked = spool.enqueue(CHAT, "x")
        client.zadd(INDEX.republished, {KEYS.member(asked.generation_id): 1})
        client.expire(INDEX.republished, 60)
        pretend_a_sweep(client)
        eventually(lambda: age_of_newest(spool, CHAT) > 0.001)
        found = [spool.sweep(queue_is_empty=True).lost for _ in range(5)]
    assert found == [(asked.generation_id,), (), (), (), ()]


def test_a_sweep_covers_more_than_a_page(spool: Spool, client: Redis) -> None:
    """A thousand and more that are lost are found in one sweep."""
    spool.set_policy(queued=2000, running=2000)
    many = [spool.enqueue(f"chat-{number}", "x").generation_id for number in range(1001)]
    eventually(lambda: age_of_newest(spool, "chat-1000") > LOST_AFTER)
    client.zadd(INDEX.republished, {ChatKeys("default", f"chat-{n}").member(one): 1 for n, one in enumerate(many)})
    client.expire(INDEX.republished, 60)
    pretend_a_sweep(client)
    assert set(spool.sweep(queue_is_empty=True).lost) == set(many)


def test_one_whose_message_was_popped_a_moment_ago_is_not_lost(spool: Spool, client: Redis) -> None:
    """It has waited for longer than `lost_after`, the queue is empty, and a worker is slow to begin: it is run."""
    waiting = spool.enqueue(CHAT, "x")
    client.delete("chunkspool")  # the message is in the worker's hands
    eventually(lambda: age_of_newest(spool, CHAT) > 2 * LOST_AFTER)
    eventually(lambda: spool.sweep(queue_is_empty=True).lost or list_messages(client))
    assert spool.status(CHAT).active == (waiting.generation_id,)
    with spool.produce(CHAT, waiting.generation_id) as out:
        out.text("here I am")
    assert out.state == "completed"


def test_a_spoiled_generation_stops_nobody_elses(spool: Spool, client: Redis) -> None:
    """Each one's errors are its own: another program's key, or member of the index, hides no lost generation."""
    spoiled = spool.enqueue("spoiled", "x")
    key = ChatKeys("default", "spoiled").gen(spoiled.generation_id)
    client.delete(key)
    client.set(key, "another program's", ex=60)
    strangers = {"": 1, "a": 1, "a b": 1, "a b c d": 1, "a/b c d": 1, "a b {": 1, "ä ö ü": 1}
    client.zadd(INDEX.unfinished, strangers)
    lost = spool.enqueue(CHAT, "x")
    swept = eventually(lambda: (found := spool.sweep(queue_is_empty=True)).lost and found)
    assert swept.lost == (lost.generation_id,)
    ((name, error),) = swept.failed
    assert name.split() == ["default", "spoiled", spoiled.generation_id]
    assert isinstance(error, CorruptLog)
    left = {member.decode() for member in client.zrange(INDEX.unfinished, 0, -1)}
    assert not left & set(strangers), "what is no member leaves the index"


def test_each_queue_is_swept_by_its_own_workers(redis_url: str, client: Redis) -> None:
    """A generation of another queue is neither published into this one nor ended; its task stays its own."""
    options: dict[str, Any] = {"lost_after": LOST_AFTER, "sweep_interval": 0.001}
    with (
        spool_for(redis_url, queue="a", **options) as a,
        spool_for(redis_url, queue="b", task="mine.answer", **options) as b,
    ):
        asked = b.enqueue(CHAT, "x")
        client.delete("b")
        eventually(lambda: age_of_newest(b, CHAT) > 2 * LOST_AFTER)
        for _ in range(5):
            assert eventually(lambda: not client.exists(QueueKeys("a").sweep_lock))
            assert a.sweep(queue_is_empty=True).lost == ()
        assert (client.llen("a"), b.status(CHAT).active) == (0, (asked.generation_id,))
        eventually(lambda: b.sweep(queue_is_empty=True).lost or client.llen("b"))
        ((message,),) = [client.lrange("b", 0, -1)]
        assert json.loads(message)["headers"]["task"] == "mine.answer"
        # A worker of `a` with another task of its own that is told to look after `b` publishes what `b` was asked for.
        client.delete("b", QueueKeys("b").republished)
        eventually(lambda: a.sweep(queue="b", queue_is_empty=True).lost or client.llen("b"))
        ((message,),) = [client.lrange("b", 0, -1)]
        assert json.loads(message)["headers"]["task"] == "mine.answer"
        client.delete("b")


@pytest.mark.parametrize("wrong", [-86_400, 86_400])
def test_a_clock_that_is_wrong_elsewhere_hides_nothing(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    """An enqueuing pod a day off: its generations are found, and others' stay in the index."""
    ours = spool.enqueue("ours", "x")
    real = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: real() + int(wrong * 1e9))
    theirs = spool.enqueue("theirs", "x")
    monkeypatch.undo()
    assert client.zcard(INDEX.unfinished) == 2
    found: set[str] = set()
    eventually(lambda: found.update(spool.sweep(queue_is_empty=True).lost) or len(found) == 2)
    assert found == {ours.generation_id, theirs.generation_id}


def test_a_generation_that_was_just_indexed_is_not_forgotten(spool: Spool, client: Redis) -> None:
    """It is indexed before it is made: a sweep in between leaves it in the index."""
    client.zadd(INDEX.unfinished, {KEYS.member("being-made"): int(client.time()[0]) * 1000})
    client.expire(INDEX.unfinished, 60)
    client.zadd(INDEX.unfinished, {KEYS.member("long-gone"): 1})
    spool.sweep(queue_is_empty=True)
    assert client.zrange(INDEX.unfinished, 0, -1) == [KEYS.member("being-made").encode()]


def hours(client: Redis, number: float) -> int:
    """Return Redis's time, in ms, so many hours from now: what it was before its clock was set back."""
    seconds, _ = client.time()
    return round((seconds + number * 3600) * 1000)


def test_a_clock_that_was_set_back_leaves_no_lease_alive(spool: Spool, client: Redis) -> None:
    """A dead attempt's lease that seems to end in an hour has been stepped over: the next attempt claims it."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=5)
    client.hset(KEYS.gen(asked.generation_id), "lease", hours(client, 1))
    assert spool.status(CHAT).generations[0].state == "stalled"
    with spool.produce(CHAT, asked.generation_id) as out:
        assert out.attempt == 2


def test_a_clock_that_was_set_back_ends_no_sweep(redis_url: str, client: Redis) -> None:
    """The lock of the last sweep, which would be free in an hour only, keeps nobody out."""
    with spool_for(redis_url, sweep_interval=30) as spool:
        client.set(INDEX.sweep_lock, "1", px=3_600_000)
        spool.enqueue(CHAT, "x")
        assert not client.exists(INDEX.watermark)
        spool.sweep(queue_is_empty=False)
        assert client.exists(INDEX.watermark)
        assert 0 < client.pttl(INDEX.sweep_lock) <= 30_000


def test_a_watermark_ahead_of_the_clock_tells_nothing(redis_url: str, client: Redis) -> None:
    """A clock was set back: what waits in a long queue now was not passed over by what ran an hour later."""
    with spool_for(redis_url, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        spool.enqueue(CHAT, "x")
        client.set(INDEX.watermark, f"{hours(client, 1)} {hours(client, 1)}", px=60_000)
        eventually(lambda: age_of_newest(spool, CHAT) > 0.5)
        for _ in range(5):
            assert eventually(lambda: not client.exists(INDEX.sweep_lock))
            spool.sweep(queue_is_empty=False)
        assert len(list_messages(client)) == 1


@pytest.mark.parametrize("swept", ["", " 1"], ids=["never", "long ago"])
def test_silence_while_nobody_looked_proves_nothing(redis_url: str, client: Redis, swept: str) -> None:
    """No worker was there for an hour, or the clock was set ahead: it is published again, and has its time again."""
    with spool_for(redis_url, lost_after=0.2, lease=0.1, redelivery=0.1, sweep_interval=0.001) as spool:
        asked = spool.enqueue(CHAT, "x")
        client.delete("chunkspool")
        eventually(lambda: spool.sweep(queue_is_empty=True).lost or list_messages(client))
        client.delete("chunkspool")
        client.hset(KEYS.gen(asked.generation_id), "created", hours(client, -1))
        client.zadd(INDEX.republished, {KEYS.member(asked.generation_id): hours(client, -1)})
        client.set(INDEX.watermark, f"{hours(client, -1)}{swept}", px=60_000)
        assert eventually(lambda: not client.exists(INDEX.sweep_lock))
        assert spool.sweep(queue_is_empty=True).lost == ()
        assert len(list_messages(client)) == 1
        client.delete("chunkspool")
        assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)


def test_a_clock_that_was_set_back_hides_no_lost_generation(spool: Spool, client: Redis) -> None:
    """What was written an hour ahead is no sign of life: neither the enqueue, nor the lease, nor the last sweep."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=5)
    client.hset(KEYS.gen(asked.generation_id), mapping={"lease": hours(client, 1), "created": hours(client, 0.9)})
    client.zadd(INDEX.unfinished, {KEYS.member(asked.generation_id): hours(client, 0.9)})
    assert sweep_until_found(spool, queue_is_empty=True) == (asked.generation_id,)
    assert ending_of(read_log(client), asked.generation_id)["code"] == "lost"
