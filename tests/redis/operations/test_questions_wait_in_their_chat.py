"""on_active="queue": a question is in the log at once, and its answer follows when those before it have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import claim_and_die, spool_for
from support.servers.contents import list_keys
from support.servers.redis_server import PrivateServer
from support.servers.slots import offer_many_slots, offer_no_slots
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.errors import ChatBusy, EnqueueFailed, LimitExceeded, NotClaimed
from chunkspool.events import GenerationFailed
from chunkspool.operations import enqueue
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.spool.scheduler import Scheduler
from chunkspool.store.client import Store
from chunkspool.store.keys import QueueKeys, TenantKeys

QUEUE = "chunkspool"
INDEX = QueueKeys(QUEUE)


def ask(spool: Spool, number: int = 1, **options: Any) -> list[Generation]:
    """Ask so many questions that wait for those before them."""
    return [spool.enqueue(CHAT, f"question {n}", on_active="queue", **options) for n in range(number)]


def handed_over(client: Redis) -> list[str]:
    """Return the ids of the generations whose messages the broker has, which no worker has claimed."""
    return [member.decode().split(" ")[2] for member in client.zrange(INDEX.sent, 0, -1)]


def answer(spool: Spool, made: Generation, text: str = "x") -> None:
    """Run a generation to its end."""
    with spool.produce(CHAT, made.generation_id, wait=5) as out:
        out.text(text)


def sweep(spool: Spool, client: Redis, *, queue_is_empty: bool = True) -> Sequence[str]:
    """Sweep, however short a time ago somebody has; return what is lost."""
    client.delete(INDEX.sweep_lock)
    swept = spool.sweep(queue_is_empty=queue_is_empty)
    assert not swept.failed
    return swept.lost


def state_of(spool: Spool, made: Generation) -> str:
    """Return how the generation stands."""
    return spool.status(CHAT, generation_ids=[made.generation_id]).generations[0].state


def do_after(
    monkeypatch: pytest.MonkeyPatch, script: str, act: Callable[[], object], *, before: bool = False, of: str = ""
) -> None:
    """Do something directly after the next call of a script (`of` a generation), or `before` it, in an operation."""
    send, pending = Store.send, [act]

    def sends(store: Store, call: Any) -> Any:
        is_it = getattr(getattr(call, "script", None), "name", "") == script and pending and of in (call.args[0], "")
        now = pending.pop() if is_it else None
        if now and before:
            now()
        reply = send(store, call)
        if now and not before:
            now()
        return reply

    monkeypatch.setattr(Store, "send", sends)


def refuse_message(*_: object) -> None:
    """Do as a broker that takes no message."""
    raise EnqueueFailed(CHAT, "a generation", "no broker")


def test_answers_follow_in_the_order_of_the_questions(spool: Spool, client: Redis) -> None:
    """Each question is in the log at once; only the first has a message, and each ending hands over the next."""
    made = ask(spool, 4)
    assert [entry.type for entry in spool.read(CHAT)] == ["generation.queued"] * 4
    assert spool.status(CHAT).active == tuple(one.generation_id for one in made)
    for n, one in enumerate(made):
        eventually(lambda one=one: handed_over(client) == [one.generation_id])
        assert client.llen(QUEUE) == n + 1
        answer(spool, one)
    assert {state_of(spool, one) for one in made} == {"completed"}
    eventually(lambda: not client.exists(INDEX.sent, INDEX.running))


def test_the_model_gets_the_answers_that_it_has_waited_for(spool: Spool) -> None:
    """The conversation is read when it begins, not when it is asked."""
    first, second = (ask(spool, history=True, keep_messages=True)[0] for _ in range(2))
    answer(spool, first, "In the attic.")
    with spool.produce(CHAT, second.generation_id) as out:
        contents = [message["content"] for message in out.request.messages]
    assert contents == ["question 0", "In the attic.", "question 0"]


def test_it_waits_for_all_that_are_active(spool: Spool, client: Redis) -> None:
    """Also for those that run beside each other; and who is allowed to run beside them waits for nobody."""
    beside = [spool.enqueue(CHAT, "x", on_active="allow") for _ in range(2)]
    (waits,) = ask(spool)
    later = spool.enqueue(CHAT, "x", on_active="allow")
    assert set(handed_over(client)) == {one.generation_id for one in (*beside, later)}
    answer(spool, beside[1])
    answer(spool, later)
    eventually(lambda: handed_over(client) == [beside[0].generation_id])
    answer(spool, beside[0])
    eventually(lambda: handed_over(client) == [waits.generation_id])


def test_other_chats_do_not_wait(spool: Spool, client: Redis) -> None:
    """What waits in its chat takes no slot, stands in no line, and is no load that more workers could take."""
    offer_no_slots(client)
    ask(spool, 5)
    spool.offer_slots("worker", 2)
    other = spool.enqueue("other", "x")
    assert other.generation_id in handed_over(client)
    assert sum(spool.stats().queued.values()) == 2
    spool.stop(CHAT, spool.status(CHAT).active[0])
    assert sum(spool.stats().queued.values()) == 2
    assert not list(client.scan_iter("cs:{index}:line*"))


@pytest.mark.parametrize("ends", ["stop", "revoke", "expires"])
def test_it_can_end_while_it_waits(spool: Spool, client: Redis, ends: str) -> None:
    """Readers are told at once, or by the sweep; the next one then follows the first."""
    first, second = ask(spool, 2)
    (waits,) = ask(spool, expires=None if ends != "expires" else 0.1)
    (last,) = ask(spool)
    match ends:
        case "stop":
            (stopped,) = spool.stop(CHAT, waits.generation_id)
            assert stopped.outcome == "stopped"
        case "revoke":
            revoked = spool.revoke(waits.generation_id)
            assert revoked is not None
            assert revoked.outcome == "stopped"
        case _:
            eventually(lambda: (sweep(spool, client), state_of(spool, waits) == "failed")[1])
            ending = spool.read(CHAT)[-1].event
            assert isinstance(ending, GenerationFailed)
            assert ending.code == "expired"
    assert handed_over(client) == [first.generation_id]
    for one in (first, second, last):
        eventually(lambda one=one: handed_over(client) == [one.generation_id])
        answer(spool, one)
    assert spool.status(CHAT).active == ()


def test_a_stop_of_what_nobody_runs_lets_the_next_begin(spool: Spool, client: Redis) -> None:
    """At once, without any worker that would tell of it."""
    first, second, third = ask(spool, 3)
    spool.stop(CHAT, first.generation_id)
    assert handed_over(client) == [second.generation_id]
    spool.revoke(second.generation_id)
    assert handed_over(client) == [third.generation_id]


def test_a_stop_of_the_chat_lets_none_begin(spool: Spool, client: Redis) -> None:
    """The newest are stopped first: what waits does not begin because the one before it has just been stopped."""
    made = ask(spool, 3)
    client.delete(QUEUE)
    with spool.produce(CHAT, made[0].generation_id) as out:
        stops = spool.stop(CHAT)
        assert [one.generation_id for one in stops] == [one.generation_id for one in made]
        assert [one.outcome for one in stops] == ["stopping", "stopped", "stopped"]
    assert out.state == "stopped"
    eventually(lambda: not client.exists(INDEX.running))
    sweep(spool, client)
    assert client.llen(QUEUE) == 0
    assert spool.status(CHAT).active == ()


def test_a_stop_of_the_chat_is_quicker_than_the_next(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the one that runs ends as soon as it is asked to, and its worker tells of that at once."""
    first, *_ = ask(spool, 3)
    client.delete(QUEUE)
    with spool_for(spool.settings.log.redis_url) as worker, ExitStack() as block:
        block.enter_context(worker.produce(CHAT, first.generation_id))

        def end() -> None:
            block.close()
            eventually(lambda: not client.exists(INDEX.running))

        do_after(monkeypatch, "stop", end, of=first.generation_id)
        spool.stop(CHAT)
    assert client.llen(QUEUE) == 0
    assert spool.status(CHAT).active == ()


def test_replace_stops_those_that_wait(spool: Spool, client: Redis) -> None:
    """The newest question is the one that counts. A busy chat still refuses those that ask it to."""
    made = ask(spool, 3)
    with pytest.raises(ChatBusy, match="queue") as busy:
        spool.enqueue(CHAT, "x")
    assert busy.value.active == tuple(one.generation_id for one in made)
    newest = spool.enqueue(CHAT, "x", on_active="replace")
    assert {state_of(spool, one) for one in made} == {"stopped"}
    assert spool.status(CHAT).active == (newest.generation_id,)
    sweep(spool, client, queue_is_empty=False)
    eventually(lambda: handed_over(client) == [newest.generation_id])


def test_the_limits_count_what_waits(spool: Spool) -> None:
    """Of a chat as many may be active as with "allow"; of a tenant as many may be queued."""
    with spool_for(spool.settings.log.redis_url, max_active=3) as few:
        ask(few, 3)
        with pytest.raises(LimitExceeded) as limit:
            ask(few)
        assert limit.value.limit == "active"
    spool.set_policy(queued=3)
    with pytest.raises(LimitExceeded) as limit:
        ask(spool)
    assert limit.value.limit == "queued"


def test_a_message_that_comes_too_early_does_no_harm(spool: Spool, client: Redis) -> None:
    """It is refused, counts as no attempt, and takes no slot; the answer comes when its turn does."""
    first, waits = ask(spool, 2)
    with spool_for(spool.settings.log.redis_url) as worker:
        for _ in range(5):
            with pytest.raises(NotClaimed) as refused, worker.produce(CHAT, waits.generation_id, wait=1):
                pass
            assert refused.value.outcome == "behind"
    # Closed, the worker's spool has told what it had to tell: the limits count it all the same.
    assert client.zscore(TenantKeys("default").active, KEYS.member(waits.generation_id)) == 0
    assert state_of(spool, waits) == "queued"
    assert handed_over(client) == [first.generation_id]
    answer(spool, first)
    answer(spool, waits)  # a message that comes before anybody has told that the first one has ended is in time
    (status,) = spool.status(CHAT, generation_ids=[waits.generation_id]).generations
    assert (status.state, status.attempt) == ("completed", 1)


def test_a_kill_between_the_end_and_its_note_is_made_good(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep hands over the next, once; as long as the first runs, it is neither published nor lost."""
    with spool_for(spool.settings.log.redis_url, lost_after=0.1, redelivery=1, lease=1) as impatient:
        first, second, third = ask(impatient, 3)
        with monkeypatch.context() as patch, impatient.produce(CHAT, first.generation_id) as out:
            for _ in range(3):
                assert sweep(impatient, client) == ()
            assert client.llen(QUEUE) == 1
            patch.setattr(Scheduler, "note", lambda *_: None)
            out.text("x")
        client.delete(QUEUE)
        assert sweep(impatient, client) == ()
        assert handed_over(client) == [second.generation_id]
        assert sweep(impatient, client, queue_is_empty=False) == ()
        assert client.llen(QUEUE) == 1
        assert state_of(impatient, third) == "queued"


def test_a_kill_before_it_is_noted_that_it_waits_is_made_good(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked died between two steps: a sweep takes the slot back that was kept for a message."""
    (first,) = ask(spool)
    with monkeypatch.context() as patch:
        patch.setattr(enqueue, "note", lambda *_: iter(()))
        (waits,) = ask(spool)
    assert waits.generation_id in handed_over(client)
    with (
        spool_for(spool.settings.log.redis_url, lost_after=0.1) as impatient,
        spool.produce(CHAT, first.generation_id),
    ):
        eventually(lambda: spool.status(CHAT).now > spool.status(CHAT).generations[1].created + 200)
        assert sweep(impatient, client) == ()
        assert handed_over(client) == []
        assert client.llen(QUEUE) == 1
    eventually(lambda: handed_over(client) == [waits.generation_id])


def test_a_kill_before_the_next_is_put_into_its_line_is_made_good(spool: Spool, client: Redis) -> None:
    """It was freed, and whoever freed it died: a sweep finds it."""
    first, second = ask(spool, 2)
    spool.stop(CHAT, first.generation_id)
    assert handed_over(client) == [second.generation_id]
    client.zrem(INDEX.sent, f"default {CHAT} {second.generation_id}")
    client.zadd("cs:{index}:active:default", {f"default {CHAT} {second.generation_id}": 0})
    sweep(spool, client, queue_is_empty=False)
    assert handed_over(client) == [second.generation_id]


@pytest.mark.parametrize("when", ["before it is made", "before it is noted"])
def test_the_active_one_ends_in_the_midst_of_the_request(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """However the two meet, the question has its message."""
    (first,) = ask(spool)
    with spool_for(spool.settings.log.redis_url) as worker:

        def end() -> None:
            answer(worker, first)
            eventually(lambda: first.generation_id not in handed_over(client))
            if when == "before it is noted":
                eventually(lambda: client.llen(QUEUE) == 2)

        do_after(monkeypatch, "enqueue", end, before=when == "before it is made")
        (second,) = ask(spool)
        assert client.llen(QUEUE) == 2
        answer(worker, second)
    sweep(spool, client)
    assert client.zcard(INDEX.unfinished) == 0


def test_a_broker_that_refuses_the_first_keeps_the_second(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked first is told; the question that has waited for it since has its turn."""
    with spool_for(spool.settings.log.redis_url) as other:
        waits: list[Generation] = []

        def refuse(*_: object) -> None:
            waits.extend(ask(other))
            refuse_message()

        with monkeypatch.context() as patch:
            patch.setattr(Dispatcher, "publish", refuse)
            with pytest.raises(EnqueueFailed):
                ask(spool)
        assert spool.status(CHAT).active == (waits[0].generation_id,)
        assert spool.offer_slots("worker", 1) == 1
        assert handed_over(client) == [waits[0].generation_id]


def test_a_broker_that_refuses_its_message_lets_it_wait(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been accepted, so it does not fail: its message comes when the broker is back."""
    first, second = ask(spool, 2)

    with monkeypatch.context() as patch:
        patch.setattr(Dispatcher, "publish", refuse_message)
        spool.stop(CHAT, first.generation_id)
    assert (handed_over(client), state_of(spool, second)) == ([], "queued")
    spool.offer_slots("worker", 1)
    assert handed_over(client) == [second.generation_id]


def test_a_repeated_request_makes_no_message(spool: Spool, client: Redis) -> None:
    """It returns the same generation, which still waits; where nobody told that its turn has come, it has it now."""
    first, waits = ask(spool)[0], ask(spool, request_id="mine")[0]
    assert ask(spool, request_id="mine") == [waits]
    assert client.llen(QUEUE) == 1
    claim_and_die(client, first.generation_id, 60)
    client.hset(KEYS.gen(first.generation_id), "status", "stopped")  # whoever ended it is dead
    assert ask(spool, request_id="mine") == [waits]
    assert client.llen(QUEUE) == 2
    answer(spool, waits)


def test_status_tells_how_many_come_before_it(spool: Spool, client: Redis) -> None:
    """Those of its chat, and those that the oldest of these waits for."""
    made = ask(spool, 3)
    told = spool.snapshot(CHAT).waiting
    assert [(one.generation_id, one.ahead, one.wait) for one in told] == [
        (made[1].generation_id, 1, None),
        (made[2].generation_id, 2, None),
    ]
    (last,) = spool.status(CHAT, generation_ids=[made[2].generation_id]).generations
    assert (last.state, last.ahead) == ("queued", 2)
    offer_no_slots(client)
    for n in range(3):
        spool.enqueue(f"other-{n}", "x")
    spool.enqueue("crowded", "x", on_active="queue")
    spool.enqueue("crowded", "x", on_active="queue")
    first, second = spool.status("crowded").generations
    assert first.ahead is not None
    assert second.ahead == first.ahead + 1


def test_what_it_waits_for_may_vanish(spool: Spool, client: Redis) -> None:
    """Its hash was evicted, or has expired: nobody waits for it for longer than until the next sweep."""
    first, second = ask(spool, 2)
    client.delete(KEYS.gen(first.generation_id))
    sweep(spool, client, queue_is_empty=False)
    assert second.generation_id in handed_over(client)
    assert spool.status(CHAT).active == (second.generation_id,)


def test_an_evicted_head_lets_nobody_begin_too_early(spool: Spool, client: Redis) -> None:
    """What it said is found again by the sweep, and the order stays."""
    made = ask(spool, 3)
    with spool.produce(CHAT, made[0].generation_id) as out:
        client.delete(KEYS.head)
        with pytest.raises(NotClaimed, match="behind"), spool.produce(CHAT, made[1].generation_id):
            pass
        sweep(spool, client, queue_is_empty=False)
        assert client.llen(QUEUE) == 1
        out.text("x")
    for one in made[1:]:
        eventually(lambda one=one: handed_over(client) == [one.generation_id])
        answer(spool, one)


def test_it_is_kept_while_it_waits(spool: Spool, client: Redis) -> None:
    """The one before it may run for longer than the chat is kept after its last event."""
    first, second = ask(spool, 2)
    client.pexpire(KEYS.gen(second.generation_id), 5000)
    sweep(spool, client, queue_is_empty=False)
    assert client.pttl(KEYS.gen(second.generation_id)) > 500_000
    answer(spool, first)
    eventually(lambda: handed_over(client) == [second.generation_id])


def test_one_that_an_older_worker_has_begun_goes_on(spool: Spool, client: Redis) -> None:
    """A worker of an older version asks nobody: it begins at once. No later attempt is refused for that."""
    first, second, third = ask(spool, 3)
    key = KEYS.gen(second.generation_id)
    client.hdel(key, "behind")
    claim_and_die(client, second.generation_id, 0.01)
    client.hset(key, "behind", 1)
    answer(spool, second)
    assert state_of(spool, second) == "completed"
    assert handed_over(client) == [first.generation_id]
    answer(spool, first)
    eventually(lambda: handed_over(client) == [third.generation_id])


def test_an_erase_forgets_what_waits(spool: Spool, client: Redis) -> None:
    """Nothing of the chat stays, and the next question of a chat of that name waits for nobody."""
    ask(spool, 3)
    spool.erase(CHAT)
    assert not [key for key in list_keys(client) if f"/{CHAT}}}" in key]
    assert not client.exists(INDEX.unfinished, INDEX.sent, INDEX.queued("interactive"), TenantKeys("default").active)
    (anew,) = ask(spool)
    assert handed_over(client) == [anew.generation_id]


def test_a_restart_of_redis_loses_none(durable_server: PrivateServer) -> None:
    """Questions that wait are still there, in their order."""
    with durable_server.client() as client, spool_for(durable_server.url) as spool:
        offer_many_slots(client)
        made = ask(spool, 3)
        durable_server.kill()
        durable_server.start()
        for one in made:
            eventually(lambda one=one: handed_over(client) == [one.generation_id])
            answer(spool, one)
        assert spool.status(CHAT).active == ()
