"""With `history`, the model gets the conversation as it stood in the log when the generation was begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die, settings_for, spool_for

from chunkspool import Spool
from chunkspool.effects import Effect, Pause, Tell, drive
from chunkspool.errors import DigestUnfinished, Fenced, GenerationNotFound, NotClaimed
from chunkspool.events import GenerationCompleted, TextDelta
from chunkspool.operations import claim, digests, history
from chunkspool.operations.answer_steps import BROKEN_OFF
from chunkspool.request import Claim
from chunkspool.states import OnActive
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.keys import ChatKeys

LEASE = 0.5


@pytest.fixture
def talk(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that keeps messages, and whose models get them."""
    with spool_for(redis_url, keep_messages=True, history=True) as spool:
        yield spool


def turn(spool: Spool, question: str, answer: str, on_active: OnActive = "reject") -> str:
    """Ask and answer; return the generation's id."""
    asked = spool.enqueue(CHAT, question, on_active=on_active)
    with spool.produce(CHAT, asked.generation_id) as out:
        out.text(answer)
    return asked.generation_id


def write_long_answer(spool: Spool, client: Redis, pages: int = 2) -> None:
    """Write an answer that is not in the digest and takes a few calls to be read."""
    generation_id = spool.enqueue(CHAT, "b").generation_id
    claim_and_die(client, generation_id, lease=60)
    for page in range(pages):
        texts = [TextDelta(generation_id=generation_id, text="x" * 1000) for _ in range(200)]
        append_by_hand(client, generation_id, 1 + 200 * page, *texts)
    ending = GenerationCompleted(generation_id=generation_id)
    append_by_hand(client, generation_id, 200 * pages + 1, ending, ending="completed")


def claim_by_hand(
    client: Redis,
    generation_id: str,
    redis_url: str,
    wait: float = 0,
    between: Callable[[], object] = lambda: None,
    **values: object,
) -> Claim:
    """Claim as a worker does, and disappear; `between` is called after each step that follows the claim itself."""
    store, claimed = Store(client), False

    def perform(effect: Effect) -> object:
        nonlocal claimed
        if claimed:
            between()
        if isinstance(effect, Tell):
            claimed = True
        elif isinstance(effect, Pause):
            time.sleep(effect.seconds)
        else:
            assert isinstance(effect, ScriptCall | Transaction)
            return store.send(effect)
        return None

    settings = settings_for(redis_url, **values)
    return drive(claim.claim(KEYS, generation_id, settings, wait, leaving=lambda: False), perform)


def said_to_model(spool: Spool, generation_id: str, wait: float = 0) -> list[Any]:
    """Run an attempt that says nothing; return the contents of what its model got."""
    with spool.produce(CHAT, generation_id, wait=wait) as out:
        return [message["content"] for message in out.request.messages]


def test_the_model_gets_the_conversation(talk: Spool) -> None:
    """Questions and answers in order, the app's own message first."""
    turn(talk, "a", "A")
    turn(talk, "b", "B")
    system = {"role": "system", "content": "s"}
    asked = talk.enqueue(CHAT, messages=[system, {"role": "user", "content": "c"}])
    with talk.produce(CHAT, asked.generation_id) as out:
        assert list(out.request.messages) == [
            system,
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "A"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "c"},
        ]


def test_it_is_said_per_call_or_by_the_setting(talk: Spool) -> None:
    """The call counts more than the setting."""
    turn(talk, "a", "A")
    assert said_to_model(talk, talk.enqueue(CHAT, "b", history=False).generation_id) == ["b"]
    assert said_to_model(talk, talk.enqueue(CHAT, "c").generation_id) == ["a", "A", "b\n\nc"]


def test_another_version_is_asked_with_what_came_before(talk: Spool) -> None:
    """Neither the replaced answer nor what followed it goes to the model; an edited question replaces the old one."""
    turn(talk, "a", "A")
    replaced = turn(talk, "b", "B")
    turn(talk, "c", "C")
    again = talk.enqueue(CHAT, replaces=replaced)
    assert said_to_model(talk, again.generation_id) == ["a", "A", "b"]
    edited = talk.enqueue(CHAT, "b!", replaces=again.generation_id)
    assert said_to_model(talk, edited.generation_id) == ["a", "A", "b!"]
    first = talk.enqueue(CHAT, "begin again", replaces=talk.snapshot(CHAT).answers[0].generation_id)
    assert said_to_model(talk, first.generation_id) == ["begin again"]


def test_the_budget_is_the_workers(redis_url: str, talk: Spool) -> None:
    """As many messages and characters as its settings say, the newest; the question in any case."""
    for name in "abc":
        turn(talk, name, name.upper() * 10)
    for limits, expected in (
        ({"history_messages": 3}, ["c", "C" * 10, "d"]),
        ({"history_messages": 1}, ["d"]),
        ({"history_characters": 1}, ["d"]),
    ):
        with spool_for(redis_url, **limits) as worker:
            asked = talk.enqueue(CHAT, "d", keep_messages=False)
            assert said_to_model(worker, asked.generation_id) == expected


def test_a_conversation_longer_than_what_is_read_at_first_is_whole(
    talk: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read from its end, so much at a time, until the budget is used up or the chat's beginning is reached."""
    monkeypatch.setattr(history, "FIRST_ANSWERS", 2)
    replaced = ""
    for number in range(9):
        made = turn(talk, f"q{number}", f"a{number}")
        replaced = replaced or made
    expected = [said for number in range(9) for said in (f"q{number}", f"a{number}")]
    assert said_to_model(talk, talk.enqueue(CHAT, "x").generation_id) == [*expected, "x"]
    # What is replaced stands at the beginning, of which the end does not tell.
    assert said_to_model(talk, talk.enqueue(CHAT, replaces=replaced).generation_id) == ["q0"]


@pytest.mark.parametrize("recovery", ["restart", "continue"])
def test_a_second_attempt_gets_the_same(talk: Spool, client: Redis, redis_url: str, recovery: str) -> None:
    """Also where an earlier answer has gone on meanwhile, and has ended: what counts is when the first one began."""
    turn(talk, "a", "A")
    other = talk.enqueue(CHAT, "b").generation_id
    claim_and_die(client, other, lease=60)
    say = partial(append_by_hand, client, other)
    say(1, TextDelta(generation_id=other, text="half"))
    asked = talk.enqueue(CHAT, "c", on_active="allow").generation_id
    say(2, TextDelta(generation_id=other, text=" of it"))
    first = claim_by_hand(client, asked, redis_url, lease=0.05)
    append_by_hand(client, asked, 1, TextDelta(generation_id=asked, text="C"), lease=0.05)
    say(3, TextDelta(generation_id=other, text=", and more"))
    say(4, GenerationCompleted(generation_id=other), ending="completed")
    turn(talk, "d", "D", on_active="allow")
    talk.snapshot(CHAT)
    second = claim_by_hand(client, asked, redis_url, wait=5, recovery=recovery)
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.request.prefix == ("C" if recovery == "continue" else "")
    contents = [message["content"] for message in first.request.messages]
    assert contents == ["a", "A", "b", f"half of it\n\n{BROKEN_OFF}", "c"]
    assert second.request.messages == first.request.messages


def test_an_attempt_of_a_stored_digest_gets_the_same(
    talk: Spool, client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one block of the digest has both what was said before and what was said later, the log tells them apart."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", 40)
    other = talk.enqueue(CHAT, "b").generation_id
    claim_and_die(client, other, lease=60)
    append_by_hand(client, other, 1, *[TextDelta(generation_id=other, text=f"{i} ") for i in range(50)])
    asked = talk.enqueue(CHAT, "c", on_active="allow").generation_id
    first = claim_by_hand(client, asked, redis_url, lease=0.05)
    append_by_hand(client, other, 51, *[TextDelta(generation_id=other, text="later ") for _ in range(100)])
    talk.snapshot(CHAT)
    assert client.hlen(KEYS.digest) > 4
    second = claim_by_hand(client, asked, redis_url, wait=5)
    assert second.request.messages == first.request.messages
    assert "later" not in str(first.request.messages)


def test_what_cannot_be_read_is_left_out(talk: Spool, client: Redis) -> None:
    """An entry that nobody can decode costs what it said, and what has expired is no longer told; nothing hangs."""
    turn(talk, "a", "A")
    broken = talk.enqueue(CHAT, "b").generation_id
    claim_and_die(client, broken, lease=60)
    append_by_hand(client, broken, 1, TextDelta(generation_id=broken, text="B"))
    store = Store(client)
    raw = scripts.append(KEYS, broken, attempt=1, index=2, lease_ms=60_000, events=[b"{"], ending=None)
    assert store.send(raw).outcome == "ok"
    append_by_hand(client, broken, 3, GenerationCompleted(generation_id=broken), ending="completed")
    assert said_to_model(talk, talk.enqueue(CHAT, "c").generation_id) == ["a", "A", "b", "B", "c"]
    # The first question and a half of the first answer's beginning.
    client.xtrim(KEYS.log, maxlen=client.xlen(KEYS.log) - 3, approximate=False)
    assert said_to_model(talk, talk.enqueue(CHAT, "d").generation_id) == ["b", "B", "c\n\nd"]
    last = talk.enqueue(CHAT, "e").generation_id
    client.delete(KEYS.log, KEYS.digest)
    assert said_to_model(talk, last) == ["e"]


def test_a_chat_too_long_to_be_read_gives_its_end(talk: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers whose beginning is not read are left out, and where there is no time at all, the question remains."""
    for name in "abcd":
        turn(talk, name, name.upper())
    monkeypatch.setattr("chunkspool.operations.digest_making.FIRST_PAGE", 1)
    monkeypatch.setattr("chunkspool.operations.digest_making.MOST_ENTRIES", 1)
    monkeypatch.setattr(history, "RECENT", 9)
    tried: list[object] = []

    def make_digest(keys: ChatKeys, within: float | None = None, after: object = 0) -> Any:
        tried.append(after)
        if not after:
            raise DigestUnfinished(CHAT, 1, client.xlen(KEYS.log))
        return (yield from digests.make_digest(keys, within, after))

    monkeypatch.setattr(history, "make_digest", make_digest)
    # Seven events are of the newest question and the answer before it, two are left of the one before that.
    assert said_to_model(talk, talk.enqueue(CHAT, "e").generation_id) == ["d", "D", "e"]
    assert tried == [0, client.xlen(KEYS.log) - 1 - 9]
    monkeypatch.setattr(history, "MOST_SECONDS", 1e-9)
    monkeypatch.setattr(history, "make_digest", digests.make_digest)
    assert said_to_model(talk, talk.enqueue(CHAT, "f").generation_id) == ["f"]


def test_a_slow_read_keeps_the_lease(talk: Spool, client: Redis, redis_url: str) -> None:
    """However long the reading takes, no other attempt gets the generation meanwhile."""
    write_long_answer(talk, client)
    asked = talk.enqueue(CHAT, "c").generation_id
    began = time.monotonic()
    held: list[str] = []

    def be_slow() -> None:
        time.sleep(LEASE / 3)
        token = f"{time.monotonic()}"
        other = scripts.claim(KEYS, asked, token=token, lease_ms=1, max_attempts=3, model=None)
        if time.monotonic() - began > LEASE / 2:
            held.append(Store(client).send(other).outcome)

    taken = claim_by_hand(client, asked, redis_url, lease=LEASE, between=be_slow)
    assert time.monotonic() - began > 2 * LEASE
    assert set(held) == {"held"}
    assert taken.request.messages[-1]["content"] == "c"


@pytest.mark.parametrize(("loss", "error"), [("fenced", Fenced), ("ended", NotClaimed), ("erased", GenerationNotFound)])
def test_an_attempt_that_loses_its_generation_while_it_reads_gives_up(
    talk: Spool, client: Redis, redis_url: str, loss: str, error: type[Exception]
) -> None:
    """Another attempt has claimed it, a stop has ended it, or the chat is gone: the model is not asked."""
    write_long_answer(talk, client)
    asked = talk.enqueue(CHAT, "c").generation_id
    lost: list[str] = []

    def lose() -> None:
        if lost:
            return
        lost.append(loss)
        time.sleep(2 * LEASE)
        if loss == "erased":
            talk.erase(CHAT)
        elif loss == "ended":
            talk.stop(CHAT)
        else:
            claim_and_die(client, asked, lease=60)

    with pytest.raises(error):
        claim_by_hand(client, asked, redis_url, lease=LEASE, between=lose)


CALL = {"id": "k1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        # The app begins the answer, with and without the conversation before.
        ("u:q1 a:a1 u:q2 a:{", "u:q1 a:a1 u:q2 a:{"),
        ("u:q2 a:{", "u:q1 a:a1 u:q2 a:{"),
        # It has run a tool by itself.
        ("u:q2 a+:- t:22C", "u:q1 a:a1 u:q2 a+:- t:22C"),
        ("u:q1 a:a1 u:q2 a+:- t:22C", "u:q1 a:a1 u:q2 a+:- t:22C"),
        # A question that was refused is asked with the next, and says what an earlier one has said.
        ("u:q1 a:a1 u:q1 u:q2", "u:q1 a:a1 u:q1 u:q2"),
        ("s:app u:q2", "s:app u:q1 a:a1 u:q2"),
    ],
)
def test_what_is_asked_reaches_the_model_whole(
    talk: Spool, client: Redis, redis_url: str, messages: str, expected: str
) -> None:
    """Whatever part of the conversation the request repeats: nothing of the new one is missing, nothing comes twice."""
    turn(talk, "q1", "a1")
    made = talk.enqueue(CHAT, messages=_messages(messages)).generation_id
    claimed = claim_by_hand(client, made, redis_url)
    assert [dict(one) for one in claimed.request.messages] == _messages(expected)


@pytest.mark.parametrize("given", [{"prompt": "o2 edited"}, {"messages": [{"role": "user", "content": "o2 edited"}]}])
def test_an_edit_keeps_a_conversation_from_elsewhere(
    talk: Spool, client: Redis, redis_url: str, given: dict[str, Any]
) -> None:
    """It stands with the first question of the log, and so before what replaces this one."""
    first = talk.enqueue(CHAT, messages=_messages("u:o1 a:oa1 u:o2")).generation_id
    with talk.produce(CHAT, first) as out:
        out.text("oa2")
    edited = talk.enqueue(CHAT, **given, replaces=first).generation_id
    claimed = claim_by_hand(client, edited, redis_url)
    assert [one["content"] for one in claimed.request.messages] == ["o1", "oa1", "o2 edited"]


def _messages(text: str) -> list[dict[str, Any]]:
    roles = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    found: list[dict[str, Any]] = []
    for word, said in (part.split(":") for part in text.split()):
        message: dict[str, Any] = {"role": roles[word[0]], "content": None if said == "-" else said}
        if "+" in word:
            message["tool_calls"] = [CALL]
        if word == "t":
            message["tool_call_id"] = "k1"
        found.append(message)
    return found
