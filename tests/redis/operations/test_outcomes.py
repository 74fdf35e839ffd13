"""Outcomes: one for each generation that has ended, until its group has acknowledged it."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import async_spool_for, claim_and_die, spool_for
from support.servers.contents import list_keys
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import InvalidId, InvalidInput, OutcomeGroupDropped
from chunkspool.outcomes import Outcome
from chunkspool.store import outcomes as doors
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys, TenantKeys

GROUP = "billing"
STREAM = TenantKeys("default")


@pytest.fixture
def read(spool: Spool) -> Spool:
    """Provide a spool whose outcomes a group waits for."""
    join(spool)
    return spool


def join(spool: Spool, group: str = GROUP) -> None:
    """Make the group."""
    with spool.outcomes(group):
        pass


def drain(spool: Spool, group: str = GROUP) -> list[Outcome]:
    """Read and acknowledge all there is."""
    found = []
    with spool.outcomes(group, until="drained") as outcomes:
        for outcome in outcomes:
            found.append(outcome)
            assert outcomes.ack(outcome) == 1
    return found


def wait_for(spool: Spool, number: int, group: str = GROUP) -> list[Outcome]:
    """Read until there were so many."""
    found: list[Outcome] = []

    def has_all() -> bool:
        found.extend(drain(spool, group))
        return len(found) >= number

    eventually(has_all)
    assert len(found) == number
    assert drain(spool, group) == []
    return found


def say(spool: Spool, text: str, chat: str = CHAT) -> str:
    """Let a generation say it."""
    made = spool.enqueue(chat, "hello", owner="olga", request_id=f"r-{time.monotonic_ns()}")
    with spool.produce(chat, made.generation_id) as out:
        out.text(text)
        out.usage(3, 5)
    return made.generation_id


def test_an_answer_is_told_with_all_that_is_known(read: Spool) -> None:
    """Who asked, what was said, what it cost, when, and where the log has it."""
    said = say(read, "So it is. 🦉")
    outcome = wait_for(read, 1)[0]
    assert (outcome.generation_id, outcome.chat_id, outcome.tenant) == (said, CHAT, "default")
    assert (outcome.state, outcome.finish_reason, outcome.text) == ("completed", "stop", "So it is. 🦉")
    assert (outcome.owner, outcome.attempt, outcome.deliveries, outcome.code) == ("olga", 1, 1, None)
    assert outcome.request_id is not None
    assert outcome.usage is not None
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (3, 5)
    assert outcome.started is not None
    assert 0 < outcome.created <= outcome.started <= outcome.ended
    log = read.read(CHAT)
    assert (outcome.first, outcome.last) == (log[0].seq, log[-1].seq)


def test_what_has_ended_without_a_worker_is_told_at_once(read: Spool, client: Redis) -> None:
    """A stop of one that waits, and of one whose worker has died."""
    waiting = read.enqueue(CHAT, "hello")
    read.stop(CHAT, waiting.generation_id, reason="enough")
    dead = read.enqueue("other", "hello")
    claim_and_die(client, dead.generation_id, 0.001, ChatKeys("default", "other"))
    eventually(lambda: read.stop("other", dead.generation_id)[0].outcome in {"stopped", "ended"})
    told = {one.generation_id: one for one in drain(read)}
    assert told.keys() == {waiting.generation_id, dead.generation_id}
    assert (told[waiting.generation_id].stopped_by, told[waiting.generation_id].reason) == ("user", "enough")


def test_a_failure_has_its_code(read: Spool) -> None:
    """Too."""
    made = read.enqueue(CHAT, "hello")
    with pytest.raises(ZeroDivisionError), read.produce(CHAT, made.generation_id) as out:
        out.text("so f")
        raise ZeroDivisionError
    outcome = wait_for(read, 1)[0]
    assert (outcome.state, outcome.text) == ("failed", "so f")
    assert outcome.code


def test_what_nobody_waits_for_is_not_kept(spool: Spool, client: Redis) -> None:
    """A spool whose outcomes no group reads has neither marks nor a stream."""
    say(spool, "hello")
    assert not [key for key in list_keys(client) if "out" in key]
    join(spool)
    say(spool, "again")
    eventually(lambda: spool.outcome_lag()[0].undelivered == 1)
    spool.drop_outcome_group(GROUP)
    say(spool, "once more")
    assert client.exists(STREAM.outcomes, KEYS.outbox) == 0


def test_each_group_gets_all(read: Spool, client: Redis) -> None:
    """And what all have acknowledged leaves Redis."""
    join(read, "archive")
    ids = {say(read, str(n), f"chat-{n}") for n in range(5)}
    assert {one.generation_id for one in wait_for(read, 5)} == ids
    assert client.xlen(STREAM.outcomes) == 5
    assert {one.generation_id for one in wait_for(read, 5, "archive")} == ids
    assert client.xlen(STREAM.outcomes) == 0


def test_what_is_not_acknowledged_is_handed_out_again_and_in_the_end_set_aside(read: Spool) -> None:
    """After so many deliveries nobody tries any more; it is kept and listed."""
    said = say(read, "poison")
    eventually(lambda: read.outcome_lag()[0].undelivered == 1)
    seen = []
    with read.outcomes(GROUP, "a", claim_after=0.4, max_deliveries=3, until="drained") as outcomes:

        def is_dead() -> bool:
            seen.extend(one.deliveries for one in outcomes)
            return len(read.dead_outcomes()) > 0

        eventually(is_dead)
    assert seen == [1, 2, 3]
    dead = read.dead_outcomes()[0]
    assert (dead.group, dead.outcome.generation_id, dead.outcome.deliveries, dead.why) == (GROUP, said, 3, "")
    assert read.outcome_lag()[0].entries == 0
    assert read.forget_dead_outcomes(dead) == 1
    assert read.dead_outcomes() == ()


def test_a_consumer_may_give_one_up_by_itself(read: Spool) -> None:
    """With its reason."""
    say(read, "no")
    eventually(lambda: read.outcome_lag()[0].undelivered == 1)
    with read.outcomes(GROUP) as outcomes:
        assert outcomes.set_aside(next(outcomes), "410 Gone")
    assert [one.why for one in read.dead_outcomes()] == ["410 Gone"]
    assert read.outcome_lag()[0].entries == 0


def test_a_long_answer_is_named_not_copied(redis_url: str) -> None:
    """Its usage and its ending are told all the same."""
    with spool_for(redis_url, outcome_text_bytes=100) as spool:
        join(spool)
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            for _ in range(1500):
                out.tool_call("c", "f", "{}")
                out.text("ü")
            out.usage(1, 2)
        outcome = wait_for(spool, 1)[0]
        assert (outcome.text, outcome.log_expired, outcome.finish_reason) == (None, False, "stop")
        assert outcome.usage is not None
        assert outcome.last == spool.status(CHAT).last


def test_asyncio_reads_the_same(redis_url: str, read: Spool) -> None:
    """The async twin."""
    say(read, "hello")

    async def first() -> Outcome:
        async with async_spool_for(redis_url) as spool, spool.outcomes(GROUP) as outcomes:
            async for outcome in outcomes:
                assert await outcomes.ack(outcome) == 1
                assert (await spool.outcome_lag())[0].entries == 0
                assert await spool.dead_outcomes() == ()
                return outcome
        raise AssertionError

    assert asyncio.run(first()).text == "hello"


def test_a_group_that_nobody_reads_is_set_aside_loudly(
    redis_url: str, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It would fill Redis. The other groups lose nothing, and its own consumers are told when they come back."""
    with spool_for(redis_url, outcome_bytes=1024 * 1024, outcome_text_bytes=60_000) as spool:
        join(spool, "dead")
        join(spool, "alive")
        got = 0
        for n in range(40):
            say(spool, "x" * 50_000, f"chat-{n}")
            got += len(wait_for(spool, 1, "alive"))
        assert got == 40
        assert client.memory_usage(STREAM.outcomes) < 1_400_000
        dead = next(one for one in spool.outcome_lag() if one.group == "dead")
        assert dead.set_aside
        assert dead.lost > 10
        assert "group dead, the slowest, is set aside" in caplog.text
        with pytest.raises(OutcomeGroupDropped) as told, spool.outcomes("dead"):
            pass
        assert told.value.lost == dead.lost
        with spool.outcomes("dead", again=True):
            say(spool, "hello")
        assert len(wait_for(spool, 1, "dead")) == 1


def test_an_erased_chat_leaves_no_outcome(read: Spool, client: Redis) -> None:
    """Neither in the stream, nor in what was set aside, nor by a relay that has read it before."""
    say(read, "secret", "erased")
    say(read, "kept")
    eventually(lambda: read.outcome_lag()[0].undelivered == 2)
    with read.outcomes(GROUP, claim_after=0.01) as outcomes:
        for _ in range(2):
            one = next(outcomes)
            outcomes.set_aside(one, "no")
    say(read, "secret", "erased")
    eventually(lambda: read.outcome_lag()[0].undelivered == 1)
    late = Outcome.decode("", client.xrange(STREAM.outcomes)[0][1][b"o"], 1)
    read.erase("erased")
    assert [one.outcome.text for one in read.dead_outcomes()] == ["kept"]
    client.zrem(STREAM.outcomes_seen, late.generation_id)
    now = client.time()[0] * 1000
    reply = Store(client).send(doors.relay("default", [late], read_at=now, most_bytes=10**9))
    assert (reply.outcome, reply.moved) == ("moved", 0)
    assert client.xlen(STREAM.outcomes) == 0


def test_an_erased_person_leaves_no_outcome(read: Spool, client: Redis) -> None:
    """Also where their chat has expired since; those of others stay."""
    say(read, "secret", "theirs")
    with read.produce("other", read.enqueue("other", "hello", owner="otto").generation_id) as out:
        out.text("kept")
    eventually(lambda: read.outcome_lag()[0].undelivered == 2)
    with read.outcomes(GROUP, batch=1) as outcomes:
        outcomes.set_aside(next(outcomes), "no")
    say(read, "secret", "theirs")
    eventually(lambda: client.xlen(STREAM.outcomes) == 2)
    for key in client.scan_iter("cs:{default/theirs}:*"):
        client.delete(key)
    read.erase_owner("olga")
    left = [outcome.text for outcome in drain(read)] + [one.outcome.text for one in read.dead_outcomes()]
    assert left == ["kept"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"batch": 17},
        {"claim_after": 0},
        {"claim_after": float("nan")},
        {"max_deliveries": 0},
        {"until": "x"},
    ],
)
def test_wrong_arguments_are_refused(spool: Spool, wrong: dict[str, object]) -> None:
    """Before anything is asked of Redis."""
    with pytest.raises(InvalidInput):
        spool.outcomes(GROUP, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidId):
        spool.outcomes("no group")
