"""Fairness: tenants take turns, and so do their owners; no backlog makes others wait for more than a turn."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.spools import spool_for
from support.servers.contents import list_keys
from support.servers.redis_server import PrivateServer
from support.servers.slots import offer_no_slots
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import EnqueueFailed, InvalidRequest, NotClaimed
from chunkspool.events import GenerationFailed
from chunkspool.spool.scheduler import Scheduler
from chunkspool.store.keys import QueueKeys

QUEUE = "chunkspool"
INDEX = QueueKeys(QUEUE)
WORKER = "worker@test"


@pytest.fixture(autouse=True)
def no_slots(client: Redis) -> None:
    """No worker has said yet how many it can run."""
    offer_no_slots(client)


def handed_over(client: Redis) -> list[str]:
    """Return the ids of the generations whose messages the broker has, in their order."""
    return [str(member).split(" ")[2] for member in _members(client, INDEX.sent)]


def _members(client: Redis, zset: str) -> list[str]:
    return [member.decode() for member in client.zrange(zset, 0, -1)]


def messages_of(client: Redis) -> int:
    """Return how many messages the queue holds."""
    return int(client.llen(QUEUE))


def run_next(spool: Spool, client: Redis) -> str:
    """Run the message that was handed over first, to its end; return its tenant and chat."""
    eventually(lambda: client.zcard(INDEX.sent))
    tenant, chat_id, generation_id = _members(client, INDEX.sent)[0].split(" ")
    with spool.for_tenant(tenant).produce(chat_id, generation_id) as out:
        out.text("x")
    eventually(lambda: generation_id not in handed_over(client) and not client.zcard(INDEX.running))
    return f"{tenant}/{chat_id}"


def test_a_backlog_of_one_tenant_costs_another_one_turn(spool: Spool, client: Redis) -> None:
    """A has forty that wait on one slot. B's comes next but one at the latest, and then they take turns."""
    for n in range(40):
        spool.for_tenant("a").enqueue(f"a-{n}", "x")
    spool.offer_slots(WORKER, 1)
    order = [run_next(spool, client)]
    for n in range(3):
        spool.for_tenant("b").enqueue(f"b-{n}", "x")
    order += [run_next(spool, client) for _ in range(7)]
    assert [name.split("/")[0] for name in order[:2]] == ["a", "a"]  # the second was with the worker already
    assert order[2:] == ["b/b-0", "a/a-2", "b/b-1", "a/a-3", "b/b-2", "a/a-4"]


def test_owners_of_a_tenant_take_turns(spool: Spool, client: Redis) -> None:
    """One user's twenty questions cost a colleague one turn."""
    for n in range(20):
        spool.enqueue(f"busy-{n}", "x", owner="busy")
    spool.offer_slots(WORKER, 1)
    spool.enqueue("calm", "x", owner="calm")
    order = [run_next(spool, client) for _ in range(3)]
    assert "default/calm" in order


def test_a_tenant_is_served_in_the_order_it_asked(spool: Spool, client: Redis) -> None:
    """Within a line, first come, first served."""
    for n in range(5):
        spool.enqueue(f"chat-{n}", "x")
    spool.offer_slots(WORKER, 1)
    order = [run_next(spool, client) for _ in range(5)]
    assert order == [f"default/chat-{n}" for n in range(5)]


def test_batch_waits_for_interactive_but_not_for_ever(spool: Spool, client: Redis) -> None:
    """Of eight turns, a batch generation has one, whoever else waits; the others go to interactive ones."""
    spool.enqueue("first", "x")
    for n in range(3):
        spool.enqueue(f"batch-{n}", "x", priority="batch")
    for n in range(12):
        spool.enqueue(f"now-{n}", "x")
    spool.offer_slots(WORKER, 1)
    order = [run_next(spool, client) for _ in range(16)]
    kinds = [name.split("/")[1].split("-")[0] for name in order]
    assert kinds[:8] == ["first", *["now"] * 7]
    assert kinds[8] == "batch"
    assert kinds.count("batch") == 3


def test_workers_are_handed_as_many_as_they_have_slots(spool: Spool, client: Redis) -> None:
    """The rest waits where its turn can still change: not in the broker's queue."""
    for n in range(10):
        spool.enqueue(f"chat-{n}", "x")
    assert messages_of(client) == 1
    spool.offer_slots(WORKER, 3)
    assert messages_of(client) == 3
    spool.offer_slots("another@test", 4)
    assert messages_of(client) == 7
    spool.offer_slots("another@test", 0)
    assert messages_of(client) == 7
    spool.offer_slots(WORKER, 50)
    assert messages_of(client) == 10


def test_all_get_to_run_without_workers_that_offer_slots(spool: Spool, client: Redis) -> None:
    """An app's own workers need not say how many they can run: each claim and each ending hands over the next."""
    for n in range(30):
        spool.enqueue(f"chat-{n}", "x")
    order = [run_next(spool, client) for _ in range(30)]
    assert sorted(order) == sorted(f"default/chat-{n}" for n in range(30))


def test_a_tenant_runs_no_more_than_its_policy_says(spool: Spool, client: Redis) -> None:
    """The slots beyond go to others; one more comes when one has ended, or when the policy allows it."""
    spool.offer_slots(WORKER, 10)
    a, b = spool.for_tenant("a"), spool.for_tenant("b")
    a.set_policy(running=2)
    made = [a.enqueue(f"a-{n}", "x") for n in range(6)]
    b.enqueue("b", "x")
    assert handed_over(client)[:2] == [one.generation_id for one in made[:2]]
    assert len(handed_over(client)) == 3
    with a.produce("a-0", made[0].generation_id):
        assert len(handed_over(client)) <= 3
    eventually(lambda: made[2].generation_id in handed_over(client))
    a.set_policy(running=4)
    spool.sweep(queue_is_empty=False)
    eventually(lambda: {one.generation_id for one in made[1:5]} <= set(handed_over(client)))
    assert made[5].generation_id not in handed_over(client)


def test_an_owner_runs_no_more_than_the_policy_says(spool: Spool, client: Redis) -> None:
    """Another owner of the same tenant has the slots that are left."""
    spool.offer_slots(WORKER, 10)
    spool.set_policy(owner_running=1)
    busy = [spool.enqueue(f"busy-{n}", "x", owner="busy") for n in range(3)]
    calm = spool.enqueue("calm", "x", owner="calm")
    assert handed_over(client) == [busy[0].generation_id, calm.generation_id]
    spool.stop("busy-0")
    spool.sweep(queue_is_empty=False)
    eventually(lambda: busy[1].generation_id in handed_over(client))


def test_a_stopped_one_waits_no_more(spool: Spool, client: Redis) -> None:
    """It is in no line, counts for nothing, and the next has its turn."""
    first = spool.enqueue("first", "x")
    waiting = [spool.enqueue(f"chat-{n}", "x") for n in range(3)]
    spool.stop("chat-0")
    assert spool.status("chat-0").generations[0].state == "stopped"
    run_next(spool, client)
    eventually(lambda: waiting[1].generation_id in handed_over(client))
    assert waiting[0].generation_id not in handed_over(client)
    assert first.generation_id not in handed_over(client)


def test_a_process_that_died_before_it_noted_the_end_is_made_good(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep finds it: the slot is free again, the limits count it no more."""
    spool.offer_slots(WORKER, 1)
    made = spool.enqueue("first", "x")
    spool.enqueue("second", "x")
    monkeypatch.setattr(Scheduler, "note", lambda *_: None)  # as if it were killed before each of them
    with spool.produce("first", made.generation_id) as out:
        out.text("x")
    assert messages_of(client) == 1
    spool.sweep(queue_is_empty=False)
    assert messages_of(client) == 2
    assert _members(client, INDEX.running) == []


def test_one_that_died_between_its_steps_gets_its_turn(spool: Spool, client: Redis) -> None:
    """Reserved and made, but in no line and with no message: the sweep puts it into its line."""
    spool.offer_slots(WORKER, 1)
    spool.enqueue("first", "x")
    waiting = spool.enqueue("second", "x")
    for key in client.scan_iter(match="cs:{index}:line*"):
        client.delete(key)
    spool.sweep(queue_is_empty=False)
    spool.offer_slots(WORKER, 2)
    assert waiting.generation_id in handed_over(client)


def test_a_request_that_is_repeated_keeps_its_turn(spool: Spool, client: Redis) -> None:
    """Asking again and again brings nobody forward, and makes no second message."""
    spool.enqueue("first", "x")
    waiting = spool.enqueue("second", "x", request_id="mine")
    for _ in range(3):
        assert spool.enqueue("second", "x", request_id="mine") == waiting
    assert messages_of(client) == 1


def test_nothing_is_left_when_all_have_ended(spool: Spool, client: Redis) -> None:
    """No line, no tenant, no owner and no member stays in the schedule."""
    for n in range(5):
        spool.enqueue(f"chat-{n}", "x", owner=f"owner-{n % 2}")
    assert len([run_next(spool, client) for _ in range(5)]) == 5
    eventually(lambda: not any(name in key for key in list_keys(client) for name in (":line", ":owners", ":active")))
    assert client.zcard(INDEX.sent) == client.zcard(INDEX.running) == 0


def test_an_erase_takes_its_generations_out_of_their_lines(spool: Spool, client: Redis) -> None:
    """Nothing of the chat stays, and the others have their turns."""
    spool.enqueue("first", "x")
    for n in range(4):
        spool.enqueue("erased", "x", on_active="allow", owner="somebody")
        spool.enqueue(f"chat-{n}", "x")
    spool.erase("erased")
    assert not [key for key in list_keys(client) if client.type(key) == b"zset" and _has(client, key, "default erased")]
    order = [run_next(spool, client) for _ in range(5)]
    assert len(order) == 5


def _has(client: Redis, key: str, start: str) -> bool:
    return any(member.startswith(start) for member in _members(client, key))


def test_status_tells_when_its_turn_comes(spool: Spool, client: Redis) -> None:
    """How many come before it: of each tenant as many as before it in its own line; and when, by the pace so far."""
    spool.offer_slots(WORKER, 1)
    for n in range(6):
        spool.enqueue(f"chat-{n}", "x")
    for n in range(2):
        spool.for_tenant("b").enqueue(f"b-{n}", "x")
    told = spool.snapshot("chat-5").waiting
    assert [(one.ahead, one.wait) for one in told] == [(6, None)]
    assert spool.snapshot("chat-0").waiting == ()
    (second,), (last,) = (spool.status(name).generations for name in ("chat-1", "chat-5"))
    assert (second.ahead, last.ahead) == (0, 6)
    assert last.wait is None
    first = spool.status("chat-0").generations[0]
    assert (first.ahead, first.wait) == (None, None)
    order = [run_next(spool, client) for _ in range(5)]
    assert {"b/b-0", "b/b-1"} < set(order)
    (last,) = spool.status("chat-5").generations
    assert last.ahead is not None
    assert last.ahead <= 2
    assert last.wait is not None
    assert 0 < last.wait < 60


@pytest.mark.parametrize("place", ["in its line", "with the broker"])
def test_what_is_no_longer_wanted_does_not_run(spool: Spool, client: Redis, place: str) -> None:
    """Its readers are told, by the sweep or by the worker that finds it; who has begun goes on."""
    running = spool.enqueue("first", "x", expires=0.3)
    with spool.produce("first", running.generation_id) as out:
        late = spool.enqueue("late", "x", expires=0.2)
        if place == "in its line":
            spool.enqueue("other", "x")
            eventually(lambda: spool.status("late").now >= spool.status("late").generations[0].created + 200)
            eventually(lambda: _swept(spool, client, "late"))
        else:
            eventually(lambda: _cannot_claim(spool, late.generation_id))
        out.text("on and on")
    assert out.state == "completed"
    ending = spool.read("late")[-1].event
    assert isinstance(ending, GenerationFailed)
    assert (ending.code, ending.retryable) == ("expired", True)
    assert spool.status("late").active == ()


def _swept(spool: Spool, client: Redis, chat_id: str) -> bool:
    client.delete(INDEX.sweep_lock)
    spool.sweep(queue_is_empty=False)
    return spool.status(chat_id).active == ()


def _cannot_claim(spool: Spool, generation_id: str) -> bool:
    if spool.status("late").now < spool.status("late").generations[0].created + 200:
        return False
    with pytest.raises(NotClaimed), spool.produce("late", generation_id):
        pass
    return True


@pytest.mark.parametrize("expires", [0, -1, float("nan"), float("inf"), "soon", True, 10**9])
def test_a_time_that_makes_no_sense_is_refused(spool: Spool, expires: object) -> None:
    """Nothing is enqueued."""
    with pytest.raises(InvalidRequest, match="expires"):
        spool.enqueue("chat", "x", expires=expires)  # type: ignore[arg-type]


def test_a_full_redis_keeps_no_slot(durable_server: PrivateServer) -> None:
    """What ends while nothing new is taken frees its slot, and the next in line has its turn."""
    with durable_server.client() as client, spool_for(durable_server.url) as spool:
        offer_no_slots(client)
        spool.offer_slots(WORKER, 1)
        made = [spool.enqueue(f"chat-{n}", "x") for n in range(2)]
        client.config_set("maxmemory", 1)
        assert spool.offer_slots(WORKER, 1) == 0
        spool.stop("chat-0")
        assert handed_over(client) == []
        with pytest.raises(EnqueueFailed):  # its queue is in the same Redis
            spool.offer_slots(WORKER, 1)
        assert handed_over(client) == []
        client.config_set("maxmemory", 0)
        spool.offer_slots(WORKER, 1)
        assert handed_over(client) == [made[1].generation_id]


@pytest.mark.parametrize("who", ["the sweep of a worker", "a worker that offers its slots", "another that asks"])
@pytest.mark.parametrize("what", ["stop", "erase"])
def test_who_has_no_broker_leaves_the_turn_to_others(spool: Spool, client: Redis, what: str, who: str) -> None:
    """A web pod that only stops and erases publishes nothing; whoever has a broker hands over what waits."""
    spool.offer_slots(WORKER, 1)
    spool.enqueue("first", "x")
    waits = spool.enqueue("second", "x")
    with Spool(client) as without_broker:
        if what == "stop":
            without_broker.stop("first")
        else:
            without_broker.erase("first")
    assert not handed_over(client)
    before = messages_of(client)
    match who:
        case "the sweep of a worker":
            spool.sweep(queue_is_empty=False)
        case "a worker that offers its slots":
            spool.offer_slots(WORKER, 1)
        case _:
            spool.enqueue("third", "x")
    assert handed_over(client) == [waits.generation_id]
    assert messages_of(client) == before + 1
